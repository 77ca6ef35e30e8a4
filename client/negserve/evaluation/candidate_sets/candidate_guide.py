"""Which candidates to look at first: those that few scores of a query predict to be high."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.errors import InvalidRequestError
from negserve.evaluation.evaluated_graph import kept_columns, splits_to_filter
from negserve.types.checks.invalid import check_integer, invalid_configuration
from negserve.types.config import SLOTS, Slot
from negserve.types.triples import as_triples
from negserve.types.triples_factory import TriplesFactory

#: Predicted scores at once: 64 MiB of them.
_BLOCK = 2**24
#: Ridges to choose from, as parts of the mean square of the landmarks' scores.
_RIDGES = 10.0 ** np.arange(-9, 1)
#: The logistic function of 1.702 x is the normal distribution function of x to 0.01.
_LOGISTIC = 1.702

_Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GuidedCandidates:
    """The candidates of m queries that are likely above the true answer.

    :ivar ids: the landmarks, and then the others, the highest predicted score first, int64, shape
        (m, depth)
    :ivar mask: bool, shape (m, depth), True where a candidate counts: it makes no known triple and
        isn't the true answer
    :ivar expected: how many candidates after the first i + 1 are expected above the true answer, at
        i, float32, shape (m, depth)
    """

    ids: NDArray[np.int64]
    mask: NDArray[np.bool_]
    expected: NDArray[np.float32]


class CandidateGuide:
    """An order of all entities for each query, by scores predicted from those of few entities.

    Some *pilot* queries are scored with all entities. The *landmarks* are the entities from whose
    scores those of all others follow best: each is the one whose scores the landmarks before it
    explain least (QR with column pivoting). Ridge regression on the pilots then predicts the score
    of each entity from those of the landmarks; the ridge is the one with the least error when each
    pilot is left out (Allen's PRESS, 1974). So any scores will do. They are predicted well where a
    matrix of low rank comes near them: exactly for a bilinear model with fewer dimensions than
    pilots and landmarks. To predict takes a multiplication for each landmark and entity, which is
    worth it where a score takes more.

    :param graph: a triples factory, in process or remote
    :param pilot_scores: of all entities, unfiltered, for queries of either side, finite, shape
        (p, num_entities), at least two queries
    :param num_landmarks: n, at most the number of entities
    :raises InvalidRequestError: for another shape, or scores that are not finite
    """

    def __init__(self, graph: TriplesFactory, pilot_scores: ArrayLike, num_landmarks: int) -> None:
        check_integer("num_landmarks", num_landmarks, 1, graph.num_entities)
        scores = np.asarray(pilot_scores, dtype=np.float64)
        if scores.ndim != 2 or len(scores) < 2 or scores.shape[1] != graph.num_entities:
            raise InvalidRequestError(
                f"pilot_scores have shape {scores.shape}; give those of two queries or more, and "
                f"of all {graph.num_entities} entities"
            )
        _check_finite("pilot_scores", scores)
        self._graph = graph
        mean = scores.mean(axis=0)
        centred = scores - mean
        #: Entities that are scored for all queries, distinct, int64, shape (n,)
        self.landmarks = _pivots(centred, num_landmarks)
        weights, self._error = _regression(centred[:, self.landmarks], centred)
        self._weights = weights.astype(np.float32)
        self._start = (mean - mean[self.landmarks] @ weights).astype(np.float32)

    def first(
        self,
        positives: ArrayLike,
        side: Slot,
        landmark_scores: ArrayLike,
        target_scores: ArrayLike,
        depth: int,
        splits: Sequence[str] | None = None,
    ) -> GuidedCandidates:
        """Give the landmarks of each query and its candidates with the highest predicted scores.

        :param positives: integer ids, shape (m, 3)
        :param side: the slot that is asked for, head or tail
        :param landmark_scores: of :attr:`landmarks`, in this order, finite, shape (m, n)
        :param target_scores: of the true answers, finite, shape (m,)
        :param depth: how many candidates, landmarks included: as many at least
        :param splits: whose triples are known; None for all of the graph
        :raises InvalidRequestError: for ids outside the graph, other shapes, or scores that are not
            finite
        """
        if side == "relation":
            raise invalid_configuration("side", side, "give head or tail")
        num_landmarks, num_entities = len(self.landmarks), self._graph.num_entities
        check_integer("depth", depth, num_landmarks, num_entities)
        triples = as_triples(positives)
        scores = np.asarray(landmark_scores, dtype=np.float32)
        targets = np.asarray(target_scores, dtype=np.float32)
        if scores.shape != (len(triples), num_landmarks) or targets.shape != (len(triples),):
            raise InvalidRequestError(
                f"landmark_scores have shape {scores.shape}, target_scores {targets.shape}; give "
                f"{(len(triples), num_landmarks)} and {(len(triples),)}"
            )
        _check_finite("landmark_scores", scores)
        _check_finite("target_scores", targets[:, None])
        rows = max(1, _BLOCK // num_entities)
        parts = [
            self._first(triples[each], side, scores[each], targets[each], depth, splits)
            for start in range(0, max(len(triples), 1), rows)
            for each in [slice(start, start + rows)]
        ]
        return GuidedCandidates(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.mask for part in parts]),
            np.concatenate([part.expected for part in parts]),
        )

    def _first(
        self,
        triples: NDArray[np.int64],
        side: Slot,
        landmark_scores: NDArray[np.float32],
        targets: NDArray[np.float32],
        depth: int,
        splits: Sequence[str] | None,
    ) -> GuidedCandidates:
        known = self._graph.known(
            triples[:, kept_columns(side)], side, splits_to_filter(self._graph, splits)
        )
        rows, num_landmarks = np.arange(len(triples))[:, None], len(self.landmarks)
        predicted = landmark_scores @ self._weights + self._start
        predicted[known.rows(), known.values] = -np.inf
        predicted[rows[:, 0], triples[:, SLOTS.index(side)]] = -np.inf
        ids = np.empty((len(triples), depth), dtype=np.int64)
        mask = np.empty(ids.shape, dtype=np.bool_)
        ids[:, :num_landmarks] = self.landmarks
        mask[:, :num_landmarks] = predicted[:, self.landmarks] > -np.inf
        predicted[:, self.landmarks] = -np.inf
        others = depth - num_landmarks
        if others:
            highest = np.argpartition(predicted, -others, axis=1)[:, -others:]
            order = np.argsort(-predicted[rows, highest], axis=1, kind="stable")
            ids[:, num_landmarks:] = highest[rows, order]
            mask[:, num_landmarks:] = predicted[rows, ids[:, num_landmarks:]] > -np.inf
        predicted -= targets[:, None]
        # At 40 the logistic function is 0 or 1, beyond exp would overflow.
        above = np.clip(predicted * np.float32(-_LOGISTIC / self._error), -40, 40, out=predicted)
        np.exp(above, out=above)
        above += 1
        np.reciprocal(above, out=above)
        passed = np.cumsum(above[rows, ids], axis=1, dtype=np.float64)
        left = above.sum(axis=1, dtype=np.float64)[:, None] - passed
        return GuidedCandidates(ids, mask, np.maximum(left, 0).astype(np.float32))


def _check_finite(name: str, scores: NDArray[np.floating]) -> None:
    if not np.isfinite(scores).all():
        row = int((~np.isfinite(scores)).any(axis=1).argmax())
        raise InvalidRequestError(
            f"{name} of query {row} are not all finite; give scores before the filter, and leave "
            f"out queries with NaN or infinity"
        )


def _pivots(columns: _Floats, num: int) -> NDArray[np.int64]:
    """Choose columns, each the one that those before it explain least; then the lowest ids."""
    left = columns.copy()
    squares = np.square(left).sum(axis=0)
    enough = squares.max() * 1e-12
    chosen: list[int] = []
    while len(chosen) < num and squares.max() > enough:
        at = int(squares.argmax())
        direction = left[:, at] / np.linalg.norm(left[:, at])
        left -= np.outer(direction, direction @ left)
        squares = np.square(left).sum(axis=0)
        chosen.append(at)
        squares[chosen] = 0
    rest = np.setdiff1d(np.arange(columns.shape[1]), chosen)[: num - len(chosen)]
    return np.array([*chosen, *rest.tolist()], dtype=np.int64)


def _regression(landmarks: _Floats, scores: _Floats) -> tuple[_Floats, float]:
    """Regress scores on those of landmarks, both centred.

    :return: weights, shape (n, num_entities), and the root mean square of the errors of pilots
        that are left out
    """
    left, singular, right = np.linalg.svd(landmarks, full_matrices=False)
    inside = left.T @ scores
    best_error, best = np.inf, np.zeros(len(singular))
    for ridge in _RIDGES * max(float(np.square(singular).mean()), np.finfo(float).tiny):
        kept = singular**2 / (singular**2 + ridge)
        # The mean is learned as well, and has one over p of each pilot.
        leverages = np.square(left) @ kept + 1 / len(left)
        residuals = scores - left @ (kept[:, None] * inside)
        errors = residuals / np.maximum(1 - leverages, 1e-9)[:, None]
        error = float(np.sqrt(np.square(errors).mean()))
        if error < best_error:
            best_error, best = error, singular / (singular**2 + ridge)
    scale = float(np.abs(scores).max())
    return right.T @ (best[:, None] * inside), max(best_error, 1e-6 * scale, 1e-12)
