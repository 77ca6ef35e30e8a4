"""Tables of how well samples estimate the metrics of the full ranking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.documents.markdown import markdown

_DESIGNS = {"guided": "guided", "uniform": "uniform with audit"}


def share_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the table of the errors of the mean reciprocal rank, by model and design."""
    header = ["model", "design", "full", "median error", "95 % of the errors below",
              "within ±0.005", "half width", "covered"]  # fmt: skip
    lines = [
        [
            row["model"],
            _DESIGNS[row["design"]],
            *(f"{row[key]:.4f}" for key in ("full", "median_error", "error_95")),
            str(row["within_0.005"]),
            f"{row['half_width']:.4f}",
            str(row["covered"]),
        ]
        for design in _DESIGNS
        for row in content["rows"]
        if row["metric"] == "mrr" and row["design"] == design
    ]
    return {"shares of ranks": markdown(header, lines, 2)}


def coverage_tables(content: Mapping[str, Any]) -> dict[str, str]:
    """Make the table of the coverage, the fewest and the most of the models."""
    header = ["graph", "metric"]
    groups: dict[tuple[str, str], dict[str, list[Mapping[str, Any]]]] = {}
    for row in content["rows"]:
        place = groups.setdefault((row["graph"], row["metric"]), {})
        place.setdefault(row["design"], []).append(row)
    for design in _DESIGNS:
        header += [f"{design}: covered", "half width"]
    lines = []
    for names, designs in groups.items():
        line = [*names]
        for design in _DESIGNS:
            covered = [row["covered"] for row in designs[design]]
            width = sum(row["half_width"] for row in designs[design]) / len(covered)
            line += [f"{min(covered)} to {max(covered)}", f"{width:.4f}"]
        lines.append(line)
    return {"coverage of ranks": markdown(header, lines, 2)}
