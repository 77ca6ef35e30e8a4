"""Every measured number in the README and ``docs/benchmarks.md`` comes from ``benchmarks/results``.

Tables and sentences with such numbers are generated: here they are compared with the results. All
other prose may have constants only, each of which is listed here with a reason.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks import tables
from benchmarks.documents.markdown import NOT_MEASURED
from benchmarks.support.measuring import RESULTS

#: Patterns of what may stand in prose though it is no result, and why.
CONSTANTS: Mapping[str, str] = {
    r"FB15k-237|Freebase-86M|Wikidata5M|\bint64\b": "names of graphs and types",
    r"PyKEEN 1\.11\.1|Python 3\.11 or later": "pinned in deploy/constraints.txt, pyproject.toml",
    r"at 127\.0\.0\.1:7733": "the server's default address",
    r"Wang et al\. 2014": "a paper",
    r"detects 23 classic mistakes": "counted in tests/server/sampling/test_distributions.py",
    r"k = \d+( and \d+)?|the k \+ 1 words": "what is asked of a sampler",
    r"batch 1024|batches of 1024|batches of 1,024 queries|\(of 128 queries\)": "the same",
    r"128 x (16|64)": "the same",
    r"of 32 batches at once|8 connections|one of 61 equal streams": "the same",
    r"256 ranks of one epoch beside 256 independent streams": "the same",
    r"pauses for 5 ms|both sides of 5,000 training triples|positives of 1024 pairs": "the same",
    r"at least a quarter of a second per system|lowest of 25 turns": "for how long",
    r"a 400th of the queries": "how much of a slow case is measured",
    r"half its relations lead|the other half (back|heads)|half of a batch": "made or drawn so",
    r"(20|1|338) M triples|(4\.6|86) M entities|14,824 relations": "sizes of synthetic graphs",
    r"10⁵ known tails|10\^5 values": "the same",
    r"have 2²⁰ known triples together \(104 with 10,000 tails, 10 with 100,000\)": "the same",
    r"Lists of up to 16 values|for (32|64) positives|some 512 negatives": "constants of the code",
    r"blocks of 16, 64 or 128 positives|Below 2¹⁴ negatives": "the same",
}

#: Results say how often something goes into another thing; so these words are numbers, too.
_TIMES = r"(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+ty|\d\S*) times"
_PARTS = r"twice|thrice|half|a (?:third|quarter|fifth|tenth)"
_NUMBER = re.compile(rf"\b(?:{_TIMES}|{_PARTS})\b|\d(?:[\d,.]*\d)?[⁰-⁹²³¹]*", re.IGNORECASE)
_IS_NOT_PROSE = re.compile(
    r"```.*?```"  # programs, pictures
    r"|`[^`]+`"  # commands and names
    r"|\]\([^)]*\)"  # targets of links
    r"|<!--.*?-->",
    re.DOTALL,
)


def unexplained(text: str) -> list[str]:
    """Return the numbers of prose that no pattern explains, each with its surroundings."""
    text = prose(text)
    allowed = [match.span() for pattern in CONSTANTS for match in re.finditer(pattern, text)]
    return [
        f"{match[0]}: …{text[max(0, match.start() - 40) : match.end() + 40]}…"
        for match in _NUMBER.finditer(text)
        if not any(begin <= match.start() and match.end() <= end for begin, end in allowed)
    ]


def prose(text: str) -> str:
    text = _IS_NOT_PROSE.sub(" ", tables.PLACE.sub(" ", text))
    return re.sub(r"\s+", " ", text)


def changed(folder: Path, name: str, change: Callable[[dict[str, Any]], None]) -> Path:
    """Copy the results, and change one file."""
    shutil.copytree(RESULTS, folder, dirs_exist_ok=True)
    content = json.loads((RESULTS / f"{name}.json").read_text())
    change(content)
    (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("document", tables.WITH_TABLES, ids=lambda path: path.name)
def test_tables_and_sentences_are_what_the_results_say(document: Path):
    text = document.read_text()
    made = tables.make_all()
    assert {match[2] for match in tables.PLACE.finditer(text)} <= set(made)
    assert tables.filled(text, made) == text, "run python -m benchmarks.tables --write"


@pytest.mark.parametrize("document", tables.DOCUMENTS, ids=lambda path: path.name)
def test_other_prose_has_no_numbers_but_constants(document: Path):
    assert unexplained(document.read_text()) == []


def test_every_constant_is_in_a_document():
    texts = " ".join(prose(document.read_text()) for document in tables.DOCUMENTS)
    assert [pattern for pattern in CONSTANTS if not re.search(pattern, texts)] == []


@pytest.mark.parametrize(
    "sentence",
    [
        "One thread draws 284 million.",
        "It takes 3.5 ns, not more.",
        "FB15k-237 has 1,024,000 negatives of 2.1 bytes.",
        "With a filter it is\ntwice as fast.",
        "It moves eleven times as much.",
        "Batch 1024 takes a third\nof the time.",
        "| rows | 17 × |",
    ],
)
def test_a_measured_number_in_prose_is_found(sentence: str):
    assert unexplained(sentence)


def test_a_changed_result_changes_tables_and_sentences(tmp_path: Path):
    def double(content: dict[str, Any]) -> None:
        for row in content["rows"]:
            if row["system"] == "negserve" and row["filter"] == "exact":
                row["negatives_per_second"] *= 2

    before, after = tables.make_all(), tables.make_all(changed(tmp_path, "engine", double))
    names = ["headline", "readme", "readme sizes", "filter cost", "goals", "engine fb15k-237"]
    assert [name for name in names if before[name] == after[name]] == []


@pytest.mark.parametrize("name", ["engine", "remote", "small_batches", "layers", "curves"])
def test_sentences_leave_out_what_was_not_measured(name: str, tmp_path: Path):
    def drop(content: dict[str, Any]) -> None:
        content["rows"] = [row for row in content["rows"] if "pykeen" not in str(row.get("system"))]
        for row in content["rows"]:
            if row.get("k") == 64 or row.get("layer") == "whole server":
                row["negatives_per_second"] = row["ns_per_negative"] = None
                row["repetitions"] = 0

    made = tables.make_all(changed(tmp_path, name, drop))
    assert not [text for text in made.values() if re.search(r"\b(?:None|nan|inf)\b", text)]


def test_results_may_be_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    made = tables.make_all(tmp_path)
    document = tables.DOCUMENTS[0].read_text()
    assert "engine.json is missing: run python -m benchmarks.engine" in capsys.readouterr().err
    assert "machine engine" not in made
    assert "| negserve | basic |" in tables.filled(document, made)


@pytest.mark.parametrize("name", tables.APART)
def test_places_of_a_benchmark_that_was_not_run_say_so(name: str, tmp_path: Path):
    made = tables.make_all(tmp_path)
    table = name.replace("_", " ")
    assert made[f"machine {name}"] == made[table] == NOT_MEASURED


def test_other_samplers_get_a_sentence(tmp_path: Path):
    def add(content: dict[str, Any]) -> None:
        row = {"graph": "fb15k-237", "batch": 1024, "k": 64, "threads": 1, "repetitions": 5}
        rate = {"negatives_per_second": 3.01e8, "lowest": 3e8, "highest": 3.1e8}
        name = {"system": "numpy", "sampler": "basic", "filter": "none"}
        content["rows"].append({**name, **row, **rate, "ns_per_negative": 3.3})

    made = tables.make_all(changed(tmp_path, "engine", add))
    assert "301 M negatives a second for *numpy*" in " ".join(made["others"].split())
    assert "| numpy | basic | none |" in made["engine fb15k-237"]
