"""Scores of candidates as evaluators of other libraries take them."""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from negserve.errors import InvalidRequestError


def evaluator_input(
    target_scores: Tensor | ArrayLike,
    candidate_scores: Tensor | ArrayLike,
    mask: Tensor | ArrayLike,
) -> dict[str, Tensor]:
    """Make the input of OGB's ``Evaluator`` for ``ogbl-wikikg2``, and of TGB's.

    These evaluators have no mask, so what does not count is -inf. They rank a target at 1 + the
    candidates that score higher + half of those that score equal, which is the realistic rank that
    :func:`negserve.evaluation.ranks` gives for the same scores and ``excluded=~mask``.

    So is it with targets of -inf, with which what does not count would tie, and of NaN, which would
    rank first: in their rows, the target becomes 0, and the candidates 1, 0 and -inf for those that
    are above it, that tie and that are below.

    :param target_scores: of the true answers, higher is better, any floating dtype, shape (n,)
    :param candidate_scores: of the same dtype, shape (n, m)
    :param mask: bool, shape (n, m), True where a candidate counts, as in a ``CandidateBatch``
    :return: ``y_pred_pos``, shape (n,), and ``y_pred_neg``, shape (n, m): tensors on the device of
        ``candidate_scores``, also for arrays, since OGB's evaluator fails for arrays. Neither is
        changed in place
    :raises InvalidRequestError: for other shapes or dtypes
    """
    scores, targets = torch.as_tensor(candidate_scores), torch.as_tensor(target_scores)
    counts = torch.as_tensor(mask)
    if scores.ndim != 2 or not scores.is_floating_point():
        raise InvalidRequestError(
            f"candidate_scores have shape {tuple(scores.shape)} and dtype {scores.dtype}; give "
            f"floating numbers of shape (n, m)"
        )
    if targets.shape != scores.shape[:1] or targets.dtype != scores.dtype:
        raise InvalidRequestError(
            f"target_scores have shape {tuple(targets.shape)} and dtype {targets.dtype}; give one "
            f"for each of the {len(scores)} rows of candidate_scores, as {scores.dtype}"
        )
    if counts.shape != scores.shape or counts.dtype != torch.bool:
        raise InvalidRequestError(
            f"mask has shape {tuple(counts.shape)} and dtype {counts.dtype}; give bools of shape "
            f"{tuple(scores.shape)}"
        )
    own = targets.to(scores.device).unsqueeze(1)
    is_compared = own > -torch.inf
    place = torch.full_like(scores, -torch.inf)
    place[scores == own] = 0
    place[(scores > own) | own.isnan()] = 1
    negatives = torch.where(is_compared, scores, place)
    return {
        "y_pred_pos": own.where(is_compared, 0.0).squeeze(1),
        "y_pred_neg": negatives.masked_fill(~counts.to(scores.device), -torch.inf),
    }
