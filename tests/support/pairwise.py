"""Few combinations of parameters that hold every pair of their values."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import combinations, product
from typing import Any

Row = tuple[Any, ...]


def pairwise(
    parameters: Mapping[str, Collection[Any]],
    *,
    allowed: Callable[[dict[str, Any]], bool] = lambda row: True,
    together: Sequence[str] = (),
) -> list[Row]:
    """Choose rows such that each pair of values of two parameters is in one of them.

    Greedy: always the row with most pairs that no row before it has; the first of equals, so
    that the same parameters give the same rows.

    :param parameters: values by name
    :param allowed: tells which rows have a meaning; a pair in none of them is left out
    :param together: names of parameters whose values are crossed, all with all
    """
    names = list(parameters)
    rows = [
        row for row in product(*parameters.values()) if allowed(dict(zip(names, row, strict=True)))
    ]
    columns = [*combinations(range(len(names)), min(2, len(names)))]
    if together:
        columns.append(tuple(names.index(name) for name in together))

    parts = [{(group, tuple(row[i] for i in group)) for group in columns} for row in rows]
    missing = set().union(*parts)
    # A row's gain only falls, so that an old one is an upper bound.
    gains = [(-len(columns), index) for index in range(len(rows))]
    chosen = []
    while missing:
        _, index = heapq.heappop(gains)
        gain = len(parts[index] & missing)
        if gains and (-gain, index) > gains[0]:
            heapq.heappush(gains, (-gain, index))
            continue
        chosen.append(index)
        missing -= parts[index]
    return [rows[index] for index in sorted(chosen)]
