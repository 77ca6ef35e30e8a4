"""Tables of ``docs/sizing.md``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.documents.markdown import markdown, rounded
from negserve_server.sizing.costs import CALLS, Costs


def cost_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the tables of costs, and of the runs that they were not fitted to."""
    costs = Costs.measured()
    kinds = [kind for kind in costs.calls["epoch"].small.per_negative if kind != "typed"]
    names = list(dict.fromkeys(row["graph"] for row in content["rows"] if row["case"] == "fitted"))
    of_graphs = [costs.small_bytes, costs.large_bytes]
    draws = [
        [
            call,
            f"{name}, {rounded(num_bytes, 1e6)} MB",
            *(
                f"{rounded(1e9 * of_draws.per_pair[kind], 1)}; "
                f"{rounded(1e9 * of_draws.per_positive[kind], 1)} + "
                f"{rounded(1e9 * of_draws.per_negative[kind], 1)} k"
                for kind in kinds
            ),
        ]
        for call in CALLS
        for name, num_bytes, of_draws in zip(
            names, of_graphs, (costs.calls[call].small, costs.calls[call].large), strict=True
        )
    ]
    calls = [
        [
            call,
            rounded(1e6 * costs.calls[call].per_batch, 1),
            rounded(1e6 * costs.calls[call].loop, 1),
            rounded(1e3 * costs.calls[call].per_stream, 1),
        ]
        for call in CALLS
    ]
    memory = costs.memory
    return {
        "costs": markdown(
            ["call", "graph", *(f"ns a positive, {kind}: k = 1; k > 1" for kind in kinds)], draws, 2
        ),
        "call costs": markdown(
            ["call", "µs a batch", "µs of the event loop a batch", "ms a stream"], calls, 1
        ),
        "memory costs": (
            f"A process takes {rounded(float(memory.process), 1e6)} MB, each further worker "
            f"{rounded(float(memory.worker), 1e6)} MB, an open stream "
            f"{rounded(float(memory.per_stream), 1e3)} KB."
        ),
        "fitted": _fitted(content),
        "not fitted": _not_fitted(content),
    }


def _fitted(content: Mapping[str, Any]) -> str:
    lines = [
        [row["graph"], row["call"], row["kind"], f"{row['batch']} x {row['k']}",
         rounded(row["ms"], 1), rounded(row["computed_ms"], 1)]
        for row in content["rows"] if row["case"] == "fitted"
    ]  # fmt: skip
    return markdown(
        ["graph", "call", "kind", "batch x k", "measured, ms", "computed, ms"], lines, 4
    )


def _not_fitted(content: Mapping[str, Any]) -> str:
    lines = []
    for row in content["rows"]:
        if row["case"] != "trial":
            continue
        training = (
            f"{row['graph']}, {row['call']}, {row['kind']}, {row['ranks']} ranks, "
            f"{row['batch_size']} x {row['num_negs_per_pos']}"
        )
        for name, unit, measured, computed in (
            ("processors", 1.0, row["processors"], row["computed_processors"]),
            ("memory, MB", 1e6, float(row["resident_bytes"]), row["computed_bytes"]),
        ):
            off = f"{computed / measured - 1:+.0%}"
            cells = [rounded(measured, unit), rounded(computed, unit), off]
            lines.append([training, name, *cells])
    return markdown(["training", "what", "measured", "computed", "off by"], lines, 2)


def fleet_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the table of simulated trainings."""
    lines = [
        [
            str(row["call"]),
            f"{row['batch']} x {row['k']}",
            f"{row['ranks']:,}",
            f"{row['fixed']:.0%}",
            str(row["busiest"]),
            str(row["replicas"]),
            str(row["workers"]),
            f"{row['sized']:.0%}",
        ]
        for row in content["rows"]
    ]
    header = ["call", "batch x k", "ranks", "pace with 4 replicas", "busiest there",
              "replicas as computed", "workers of each", "pace with these"]  # fmt: skip
    return {"fleet": markdown(header, lines, 2)}
