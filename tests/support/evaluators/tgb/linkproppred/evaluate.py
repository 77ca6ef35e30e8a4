"""Stands for TGB, which brings much else: its metrics of link prediction, by their description."""

from __future__ import annotations

from typing import Any

import numpy as np


class Evaluator:
    def __init__(self, name: str, k_value: int = 10) -> None:
        self._k = k_value

    def eval(self, given: dict[str, Any]) -> dict[str, float]:
        """Rank each target in the middle of the candidates that score equal.

        :param given: ``y_pred_pos``, shape (n,), and ``y_pred_neg``, shape (n, m), or (m,) for one;
            ``eval_metric``, a list
        :return: means, by metric
        """
        assert given["eval_metric"] == ["mrr"]
        own, others = (np.asarray(given[name]) for name in ("y_pred_pos", "y_pred_neg"))
        above = (others > own.reshape(-1, 1)).sum(axis=1)
        not_below = (others >= own.reshape(-1, 1)).sum(axis=1)
        ranks = 1 + 0.5 * (above + not_below)
        return {
            f"hits@{self._k}": float((ranks <= self._k).mean()),
            "mrr": float((1 / ranks).mean()),
        }
