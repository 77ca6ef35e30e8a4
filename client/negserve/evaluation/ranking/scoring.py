"""Models as score functions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from negserve.errors import InvalidRequestError
from negserve.evaluation.ranking.score_function import ScoreFunction
from negserve.types.config import Slot

#: PyKEEN's methods, which score all ids: also in models with inverse relations, and with the
#: sigmoid of models that predict with one.
_PYKEEN_METHODS: dict[Slot, str] = {
    "head": "predict_h",
    "relation": "predict_r",
    "tail": "predict_t",
}


def as_score_function(model: Any) -> ScoreFunction:
    """Return a score function: of a PyKEEN model, or what is one already.

    :raises InvalidRequestError: for anything else
    """
    if all(callable(getattr(model, method, None)) for method in _PYKEEN_METHODS.values()):

        def score(pairs: Tensor, slot: Slot, /) -> Tensor:
            scores: Tensor = getattr(model, _PYKEEN_METHODS[slot])(pairs)
            return scores

        return score
    if not callable(model):
        raise InvalidRequestError(
            f"a {type(model).__name__} can't score; give a PyKEEN model, or a function "
            f"score(pairs, slot) that returns a score for every id, shape (n, num_entities)"
        )
    function: ScoreFunction = model
    return function


def device_of(model: Any) -> torch.device:
    """Return the device of a model's first parameter; the CPU for what has none."""
    parameter = next(iter(model.parameters()), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Put a module into evaluation mode, without gradients, and each part back into its own."""
    parts = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [part.training for part in parts]
    try:
        if isinstance(model, nn.Module):
            model.eval()
        with torch.no_grad():
            yield
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode


def checked_scores(scores: Any, num_rows: int, num_ids: int) -> Tensor:
    """Check what a score function returned.

    :raises InvalidRequestError: for another type, layout, shape or dtype
    """
    if not isinstance(scores, Tensor):
        raise InvalidRequestError(
            f"the score function returned a {type(scores).__name__}; return a tensor"
        )
    if scores.layout != torch.strided or scores.is_meta:
        raise InvalidRequestError(
            f"the score function returned a tensor of layout {scores.layout} on {scores.device}; "
            f"return a dense one that has values"
        )
    if scores.shape != (num_rows, num_ids) or not scores.is_floating_point():
        raise InvalidRequestError(
            f"the score function returned shape {tuple(scores.shape)} and dtype {scores.dtype}; "
            f"return a floating number for each id: ({num_rows}, {num_ids})"
        )
    return scores
