"""Cost of the order of an epoch: nanoseconds per position, in process, one thread."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from benchmarks.support.measuring import SECONDS_PER_REPETITION, Row, console, measure, repeated
from negserve_server.graph import TriplesFactory
from negserve_server.sampling.permutation import Permutation


def measure_order(
    name: str, factory: TriplesFactory, batch: int, seconds: float = SECONDS_PER_REPETITION
) -> list[Row]:
    """Measure the keyed permutation alone, and together with the lookup of its triples."""
    triples = factory.mapped_triples
    order = Permutation(len(triples), seed=0, number=0)
    begins = range(0, len(triples) - batch, batch)
    done = 0

    def places() -> int:
        nonlocal done
        done += 1
        order.at(begins[done % len(begins)], batch)
        return batch

    def positives() -> int:
        nonlocal done
        done += 1
        triples.take(order.at(begins[done % len(begins)], batch), axis=0)
        return batch

    rows = measure(
        [({"what": "places", "graph": name, "batch": batch}, repeated(places)),
         ({"what": "positives at these places", "graph": name, "batch": batch},
          repeated(positives))],
        f"{name}, order", seconds,
    )  # fmt: skip
    return [_of_positions(row) for row in rows]


def _of_positions(row: Row) -> Row:
    """Rename the unit: positions, not negatives."""
    names = {
        "negatives_per_second": "positions_per_second",
        "ns_per_negative": "ns_per_position",
    }
    return {names.get(name, name): value for name, value in row.items()}


def show(rows: Sequence[Row]) -> None:
    """Print the rows."""
    table = Table("graph", "what", "ns per position", title="order of an epoch")
    for row in rows:
        table.add_row(str(row["graph"]), str(row["what"]), f"{row['ns_per_position']:.3g}")
    console.print(table)
