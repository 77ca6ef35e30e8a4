"""False-negative reports as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def report_tables(reports: list[dict[str, Any]], num_relations: int) -> Iterator[str]:
    """Lines of text of reports as ``to_dict`` returns them: a table of all, then one of each."""
    first = reports[0]
    yield f"known      triples of {', '.join(first['splits'])}"
    yield f"positives  {first['num_triples']:,} training triples"
    yield f"negatives  {first['num_negs_per_pos']:,} for each"
    yield ""
    yield f"{'kind':<20}{'probability':>12}{'expected':>15}{'saturated':>12}"
    for one in reports:
        yield (
            f"{_name(one):<20}{_percent(one['probability']):>12}"
            f"{one['expected_false_negatives']:>15,.1f}{one['num_saturated']:>12,}"
        )
    for one in reports:
        slots, rows = one["corruption_scheme"], one["relations"]
        titles = "".join(f"{title:>12}" for title in (*slots, "probability"))
        yield ""
        yield f"{_name(one)}: {len(rows)} of {num_relations} relations"
        yield f"{'triples':>12}{titles}{'expected':>15}  relation"
        for row in rows:
            of_slots = (row["slots"][slot]["probability"] for slot in slots)
            shown = "".join(f"{_percent(value):>12}" for value in (*of_slots, row["probability"]))
            # The name last, since some are long.
            yield (
                f"{row['num_triples']:>12,}{shown}{row['expected_false_negatives']:>15,.1f}"
                f"  {row.get('relation', row['relation_id'])}"
            )


def _name(one: dict[str, Any]) -> str:
    return f"{one['kind']} (alpha {one['alpha']:g})" if "alpha" in one else str(one["kind"])


def _percent(probability: float) -> str:
    return f"{100 * probability:.4f} %"
