"""The inputs of the shared folder of cases: what loading makes of each."""

from __future__ import annotations

import csv
import logging
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from negserve_server.errors import MalformedFile
from negserve_server.graph import TriplesFactory
from negserve_server.graph.readers import ReadOptions
from negserve_server.reading_options import read_options, reading_options
from tests.support.graphs import REPOSITORY

FOLDER = REPOSITORY.parent / "shared" / "cases" / "ingest"
IDS = {"Uganda": 0, "Tanzania": 1, "Nairobi": 2, "Kenya": 3, "Kampala": 4, "Dodoma": 5}
#: What a refusal names, by the case.
REFUSED = {
    "four-columns": ["4 ", "--columns"],
    "spaces": ["1 tab-separated", "--separator space"],
    "order-rht": ["'Kampala'", "relation's and an entity's column", "--columns"],
    "order-htr": ["relation's and an entity's column", "--columns"],
    "int-ids-alone": ["all labels", "integers", "--ids", "--labels", "entities.dict"],
    "id-maps-dict": ["entities.dict", "id 99", "none from 7 to 98"],
    "space-behind-label": ["'Uganda '", "'Uganda'", "blanks only", "--strip"],
    "nfc-nfd": ["NFC", "--normalize"],
}


def cases() -> list[Any]:
    if not FOLDER.is_dir():
        return [pytest.param({}, marks=pytest.mark.skip(reason=f"{FOLDER} is missing"))]
    with (FOLDER / "expected.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [pytest.param(row, id=row["case"]) for row in rows]


def options_of(text: str) -> ReadOptions:
    """Read options as a command does."""
    import click

    @click.command()
    @reading_options
    def command(**values: Any) -> ReadOptions:
        return read_options(values)

    found: ReadOptions = command.main(shlex.split(text or ""), standalone_mode=False)
    return found


@pytest.mark.parametrize("case", cases())
def test_a_case_is_read_as_expected(case: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    path, expected = FOLDER / case["case"], case["expected"]
    options = options_of(case["options"])
    caplog.set_level(logging.INFO, logger="negserve_server")
    if expected.startswith("refused"):
        with pytest.raises(MalformedFile) as caught:
            TriplesFactory.from_path(path, options)
        assert caught.value.path.startswith(str(path))
        for word in REFUSED[case["case"]]:
            assert word in str(caught.value)
        return
    factory = TriplesFactory.from_path(path, options)
    log = caplog.text
    for name, count in re.findall(r"(\w+)=(\d+)", expected):
        sizes = {"entities": factory.num_entities, "relations": factory.num_relations}
        assert (sizes[name] if name in sizes else len(factory.splits[name])) == int(count), name
    if "log names" in expected:
        assert "not read: notes.md, train_inverse.txt" in log
    if "literal" in expected:
        assert "1 literal left out" in log
    if "warning that names an example" in expected:
        assert re.search(r"1 of 1 triples .* such as '(Peru|Chile)'", log)
    if "ids are the map's" in expected:
        assert {label: factory.entity_to_id[label] for label in IDS} == IDS
        assert factory.relation_to_id["borders"] == 3
        assert [3, 3, 0] in factory.mapped_triples.tolist()
    if "ids are the file's" in expected:
        assert factory.entities is None
        assert [5, 1, 1] in factory.mapped_triples.tolist()
    if case["case"] == "spo-extra-columns":
        assert "columns left out: source" in log


def test_the_same_graph_has_the_same_fingerprint_in_every_format() -> None:
    if not FOLDER.is_dir():
        pytest.skip(f"{FOLDER} is missing")
    plain = TriplesFactory.from_path(FOLDER / "plain")
    for name in ("dev-name", "long-names", "csv-commas", "parquet", "other-files"):
        assert TriplesFactory.from_path(FOLDER / name).fingerprint == plain.fingerprint, name
    for name, options in (
        ("header-known", ""), ("header-other-order", ""), ("header-unknown", "--header"),
        ("spo-extra-columns", ""), ("four-columns-chosen", "--columns 1,2,3"),
        ("pipes", "--separator '|'"), ("order-rht-said", "--columns relation,head,tail"),
        ("order-htr-said", "--columns 1,3,2"), ("blank-and-last", ""), ("zst", ""), ("xz", ""),
        ("bz2", ""), ("jsonl", ""), ("start-id-type-end-id", ""),
    ):  # fmt: skip
        training = TriplesFactory.from_path(FOLDER / name, options_of(options)).mapped_triples
        assert np.array_equal(training, plain.mapped_triples), name


def test_a_folder_of_cases_is_complete() -> None:
    if not FOLDER.is_dir():
        pytest.skip(f"{FOLDER} is missing")
    folders = {each.name for each in Path(FOLDER).iterdir() if each.is_dir()}
    assert {param.values[0]["case"] for param in cases()} == folders  # type: ignore[attr-defined]
