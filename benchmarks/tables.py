"""The tables and measured sentences of the documents, from ``results/``.

Run as ``python -m benchmarks.tables`` to print them; with ``--write`` to insert each into the
documents, between ``<!-- table NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

if not __package__:
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for ``python benchmarks/tables.py``

from benchmarks.documents import (
    engine_tables,
    rank_tables,
    sentences,
    service_tables,
    sizing_tables,
)
from benchmarks.documents.markdown import NOT_MEASURED
from benchmarks.support.measuring import RESULTS, machine

_REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = (
    _REPOSITORY / "docs" / "benchmarks.md",
    _REPOSITORY / "docs" / "sizing.md",
    _REPOSITORY / "README.md",
)
#: Documents with such tables, most of whose other numbers are no results.
WITH_TABLES = (
    *DOCUMENTS,
    _REPOSITORY / "docs" / "evaluation_sets.md",
    _REPOSITORY / "docs" / "operations.md",
)
PLACE = re.compile(r"(<!-- table (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)

MAKERS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, str]]] = {
    "engine": engine_tables.engine_tables,
    "curves": engine_tables.curve_tables,
    "expansion": engine_tables.expansion_tables,
    "remote": service_tables.remote_tables,
    "exchange": service_tables.exchange_tables,
    "layers": service_tables.layer_tables,
    "load": service_tables.load_tables,
    "training": service_tables.training_tables,
    "epoch_messages": service_tables.epoch_message_tables,
    "small_batches": service_tables.small_batch_tables,
    "answers": service_tables.answer_tables,
    "evaluation": service_tables.evaluation_tables,
    "fairness": service_tables.fairness_tables,
    "sampled_ranks": rank_tables.coverage_tables,
    "sampled_ranks_fb15k-237": rank_tables.share_tables,
    "scale": service_tables.scale_tables,
    "workers": service_tables.worker_tables,
    "metrics": service_tables.metrics_tables,
    "sizing": sizing_tables.cost_tables,
    "fleet": sizing_tables.fleet_tables,
}
#: Benchmarks whose places say so if they were not run; those of others stay as they are.
APART = ("training", "epoch_messages")


def make_all(results: Path = RESULTS) -> dict[str, str]:
    """Make everything that the results suffice for, by the names of the places."""
    tables: dict[str, str] = {}
    contents: dict[str, Mapping[str, Any]] = {}
    for name, make in MAKERS.items():
        path = results / f"{name}.json"
        if not path.exists():
            print(f"{path} is missing: run python -m benchmarks.{name}", file=sys.stderr)
            if name in APART:
                tables |= {f"machine {name}": NOT_MEASURED, **make({"rows": []})}
            continue
        contents[name] = json.loads(path.read_text())
        tables[f"machine {name}"] = f"{machine(contents[name])}."
        tables |= make(contents[name])
    return tables | sentences.make_all(contents)


def filled(text: str, tables: Mapping[str, str]) -> str:
    """Fill the places of a document; those that the results don't suffice for stay."""

    def fill(match: re.Match[str]) -> str:
        table = tables.get(match[2])
        return match[0] if table is None else f"{match[1]}\n{table}\n\n{match[3]}"

    return PLACE.sub(fill, text)


def main(results: Path = RESULTS, *, is_writing: bool = False) -> None:
    """Print all tables, or write those that have a place in a document."""
    tables = make_all(results)
    if not is_writing:
        for name, table in tables.items():
            print(f"{name}\n\n{table}\n")
        return
    for document in WITH_TABLES:
        text = document.read_text()
        for name in sorted({match[2] for match in PLACE.finditer(text)} - set(tables)):
            print(f"no rows for table {name}: it is not changed", file=sys.stderr)
        document.write_text(filled(text, tables))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--write", action="store_true", help="insert them into the documents")
    arguments = parser.parse_args()
    main(arguments.results, is_writing=arguments.write)
