"""Stands for OGB, which brings much else: its metrics of ogbl-wikikg2, by their description."""

from __future__ import annotations

from torch import Tensor


class Evaluator:
    def __init__(self, name: str) -> None:
        assert name == "ogbl-wikikg2"

    def eval(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rank each target in the middle of the candidates that score equal.

        :param given: ``y_pred_pos``, shape (n,); ``y_pred_neg``, shape (n, m)
        :return: by metric, float32, shape (n,)
        """
        own, others = given["y_pred_pos"], given["y_pred_neg"]
        assert own.ndim == 1
        assert others.ndim == 2
        above = (others > own[:, None]).sum(dim=1)
        not_below = (others >= own[:, None]).sum(dim=1)
        ranks = 1 + 0.5 * (above + not_below)
        hits = {f"hits@{k}_list": (ranks <= k).float() for k in (1, 3, 10)}
        return {**hits, "mrr_list": 1.0 / ranks.float()}
