"""What was measured, as a table for people and as values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from negserve.cli.bench.bound import Bound, bound_of, conclusions, round_trip_share
from negserve.cli.bench.cell import Cell, Figures, Network

Measurement: TypeAlias = tuple[Cell, Figures]

#: Width of the table where there is no terminal.
_WIDTH = 110


def as_values(measurements: Sequence[Measurement], network: Network) -> dict[str, Any]:
    """Return what ``--json`` prints of the measurements, with units in the names of the keys."""
    rows = []
    for cell, figures in measurements:
        share = round_trip_share(cell, figures, network)
        rows.append(
            {
                **asdict(cell),
                "calls": figures.calls,
                "negatives_per_second": figures.negatives_per_second,
                "mean_ms": 1e3 * figures.mean,
                "p50_ms": 1e3 * figures.p50,
                "p99_ms": 1e3 * figures.p99,
                "round_trip_share": share,
                "received_bytes_per_second": figures.received,
                "sent_bytes_per_second": figures.sent,
                "slowest_to_fastest_stream": figures.slowest_to_fastest,
                "client_cpu_ms": 1e3 * figures.client_cpu,
                "client_load": figures.client_load,
                "machine_load": figures.machine_load,
                "bound_by": bound_of(cell, figures, network),
            }
        )
    return {
        "round_trip_ms": {"p50": 1e3 * network.round_trip, "p99": 1e3 * network.round_trip_p99},
        "cheap_bytes_per_second": network.received,
        "measurements": rows,
        "conclusions": conclusions(_bounds(measurements, network), network),
    }


def print_table(title: str, measurements: Sequence[Measurement], network: Network) -> None:
    """Print a table and its conclusions on standard output."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left")
    for name in ("call", "k", "batch", "streams", "M neg/s", "p50 ms", "p99 ms", "round trip",
                 "MB/s", "bound by"):  # fmt: skip
        table.add_column(name, justify="left" if name in {"call", "bound by"} else "right")
    for cell, figures in measurements:
        share = round_trip_share(cell, figures, network)
        table.add_row(
            cell.call,
            *(f"{number:,}" for number in (cell.k, cell.batch_size, cell.streams)),
            f"{figures.negatives_per_second / 1e6:,.3g}",
            f"{1e3 * figures.p50:.3g}",
            f"{1e3 * figures.p99:.3g}",
            "–" if share is None else f"{share:.0%}",
            f"{figures.received / 1e6:,.3g}",
            bound_of(cell, figures, network),
        )
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(table)
    console.print(
        f"Round trip of a call that asks for nothing: {1e3 * network.round_trip:.3g} ms (p99 "
        f"{1e3 * network.round_trip_p99:.3g} ms). Bytes that cost the server little: "
        f"{network.received / 1e6:,.4g} MB/s.",
        soft_wrap=True,
    )
    for sentence in conclusions(_bounds(measurements, network), network):
        console.print(sentence, soft_wrap=True)


def _bounds(measurements: Sequence[Measurement], network: Network) -> list[Bound]:
    return [bound_of(cell, figures, network) for cell, figures in measurements]
