"""Ranks of targets among their candidates, from scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from negserve.errors import InvalidRequestError
from negserve.evaluation.ranking.known_index import KnownIndex


@dataclass(frozen=True, eq=False)
class Ranks:
    """The ranks of n targets, from 1, and among how many candidates; on the scores' device.

    :ivar optimistic: 1 + candidates that score higher, int64, shape (n,)
    :ivar pessimistic: 1 + other candidates that score at least as high, int64, shape (n,)
    :ivar num_candidates: candidates that count, with the target, int64, shape (n,)
    """

    optimistic: Tensor
    pessimistic: Tensor
    num_candidates: Tensor

    @property
    def realistic(self) -> Tensor:
        """The mean of both, float64, shape (n,): the expected rank if equals are shuffled."""
        return (self.optimistic + self.pessimistic).double() / 2


def ranks(
    scores: Tensor,
    targets: Tensor | None = None,
    *,
    target_scores: Tensor | None = None,
    excluded: Tensor | KnownIndex | tuple[Tensor, Tensor] | None = None,
) -> Ranks:
    """Rank the target of each query among its candidates; a higher score is better.

    The ranks are those of PyKEEN wherever scores are finite. Other scores:

    - A target of NaN ranks last, among all candidates that count: comparisons with NaN are false,
      so a model that has diverged would otherwise rank first everywhere.
    - A candidate of NaN never beats or ties a target, and is one of the candidates, as the worst.
    - Infinite scores are compared like any others, so -inf ties with -inf. What does not count has
      to be excluded rather than set to -inf: then it neither ties nor is a candidate.

    Scores are compared in their own dtype: rounding to float16 makes ties, which the three ranks
    tell apart, while a cast before or after would hide them.

    :param scores: of n queries and m candidates, any floating dtype and device, shape (n, m)
    :param targets: the column of each query's target, integers, shape (n,)
    :param target_scores: in place of ``targets``, where the target is not among the candidates:
        its score, of the dtype of ``scores``, shape (n,)
    :param excluded: candidates that do not count: bool, shape (n, m) or (m,), True for excluded;
        known answers (:func:`negserve.evaluation.known`); or their rows and columns, integers,
        each shape (k,), which may repeat. A column of ``targets`` counts in any case
    :raises InvalidRequestError: for other shapes or dtypes, columns that are not there, and if not
        exactly one of ``targets`` and ``target_scores`` is given
    """
    _check_scores(scores)
    if (targets is None) == (target_scores is None):
        raise InvalidRequestError(
            "give either targets, the columns of the targets, or target_scores, where they are "
            "not among the candidates"
        )
    m = scores.shape[1]
    if targets is not None:
        targets = _checked_targets(targets, scores)
        own = scores.gather(1, targets.unsqueeze(1))
        num_others = m - 1
    else:
        assert target_scores is not None
        own = _checked_target_scores(target_scores, scores).unsqueeze(1)
        num_others = m
    if isinstance(excluded, Tensor):
        counts = ~_checked_mask(excluded, scores)
        if targets is not None:
            counts.scatter_(1, targets.unsqueeze(1), False)
        above = _count((scores > own) & counts)
        ties = _count((scores == own) & counts)
        others = _count(counts)
    else:
        above = _count(scores > own)
        ties = _count(scores == own)
        others = torch.full_like(above, num_others)
        if targets is not None:
            # The target ties with itself, unless it is NaN; that case is settled below.
            ties -= 1
        if excluded is not None:
            # What does not count is taken off again: no copy of the scores, and no mask.
            rows, columns = _checked_positions(excluded, scores)
            if targets is not None:
                is_other = columns != targets[rows]
                rows, columns = rows[is_other], columns[is_other]
            values, against = scores[rows, columns], own[rows, 0]
            above.index_add_(0, rows, -(values > against).long())
            ties.index_add_(0, rows, -(values == against).long())
            others.index_add_(0, rows, torch.full_like(rows, -1))
    optimistic = above + 1
    pessimistic = optimistic + ties
    num_candidates = others + 1
    is_nan = own[:, 0].isnan()
    return Ranks(
        optimistic=torch.where(is_nan, num_candidates, optimistic),
        pessimistic=torch.where(is_nan, num_candidates, pessimistic),
        num_candidates=num_candidates,
    )


def _count(flags: Tensor) -> Tensor:
    """Count the flags of each row, shape (n, m) to (n,)."""
    # On CPUs torch adds bools as int32 three to four times as fast as int64.
    width = torch.int32 if flags.shape[1] < 2**31 else torch.int64
    return flags.sum(1, dtype=width).long()


def _check_scores(scores: Tensor) -> None:
    if scores.ndim != 2 or not scores.is_floating_point():
        raise InvalidRequestError(
            f"scores have shape {tuple(scores.shape)} and dtype {scores.dtype}; give floating "
            f"numbers of shape (n, m): queries and their candidates"
        )


def _checked_targets(targets: Tensor, scores: Tensor) -> Tensor:
    n, m = scores.shape
    if targets.shape != (n,) or not _is_integer(targets):
        raise InvalidRequestError(
            f"targets have shape {tuple(targets.shape)} and dtype {targets.dtype}; give the column "
            f"of each of the {n} targets, integers of shape ({n},)"
        )
    targets = targets.to(scores.device, torch.int64)
    is_outside = (targets < 0) | (targets >= m)
    if is_outside.any():
        row = int(is_outside.nonzero()[0])
        raise InvalidRequestError(
            f"the target of row {row} is column {int(targets[row])} of {m}; give target_scores if "
            f"targets are not among the candidates"
        )
    return targets


def _checked_target_scores(target_scores: Tensor, scores: Tensor) -> Tensor:
    if target_scores.shape != scores.shape[:1] or target_scores.dtype != scores.dtype:
        raise InvalidRequestError(
            f"target_scores have shape {tuple(target_scores.shape)} and dtype "
            f"{target_scores.dtype}; give one for each row of the scores, shape "
            f"({len(scores)},), as {scores.dtype}: another dtype rounds differently, which breaks "
            f"ties"
        )
    return target_scores.to(scores.device)


def _checked_mask(excluded: Tensor, scores: Tensor) -> Tensor:
    if excluded.dtype != torch.bool or excluded.shape not in {scores.shape, scores.shape[1:]}:
        raise InvalidRequestError(
            f"excluded has shape {tuple(excluded.shape)} and dtype {excluded.dtype}; give bools "
            f"of shape {tuple(scores.shape)} or ({scores.shape[1]},), or rows and columns"
        )
    return excluded.to(scores.device).expand(scores.shape)


def _checked_positions(
    excluded: KnownIndex | tuple[Tensor, Tensor], scores: Tensor
) -> tuple[Tensor, Tensor]:
    n, m = scores.shape
    if isinstance(excluded, KnownIndex):
        excluded.check_fits(scores)
        index = excluded.to(scores.device)
        return index.rows, index.columns
    rows, columns = (part.to(scores.device) for part in excluded)
    if rows.ndim != 1 or rows.shape != columns.shape or not _is_integer(rows, columns):
        raise InvalidRequestError(
            f"rows and columns of what is excluded have shapes {tuple(rows.shape)} and "
            f"{tuple(columns.shape)}, dtypes {rows.dtype} and {columns.dtype}; give integers of "
            f"equal shape (k,)"
        )
    if ((rows < 0) | (rows >= n) | (columns < 0) | (columns >= m)).any():
        raise InvalidRequestError(
            f"what is excluded has a position outside the scores, whose shape is ({n}, {m})"
        )
    # A repeated one would be taken off twice.
    cells = torch.unique(rows.long() * m + columns.long())
    return cells // m, cells % m


def _is_integer(*tensors: Tensor) -> bool:
    return all(
        not (each.is_floating_point() or each.is_complex() or each.dtype == torch.bool)
        for each in tensors
    )
