"""Ranks and masks, one candidate after the other."""

from __future__ import annotations

import math
from collections.abc import Set


def naive_ranks(scores: list[float], own: float, others: Set[int]) -> tuple[int, int, int]:
    """Rank one target.

    :param own: the target's score
    :param others: columns of the candidates that count, without the target
    :return: optimistic and pessimistic rank, number of candidates
    """
    num_candidates = len(others) + 1
    if math.isnan(own):
        return num_candidates, num_candidates, num_candidates
    better = equal = 0
    for column in others:
        if scores[column] > own:
            better += 1
        elif scores[column] == own:
            equal += 1
    return 1 + better, 1 + better + equal, num_candidates
