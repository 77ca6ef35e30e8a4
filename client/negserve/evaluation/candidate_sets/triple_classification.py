"""Triple classification: true or not, by a threshold for each relation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.errors import InvalidRequestError


@dataclass(frozen=True, eq=False)
class ClassifiedScores:
    """Scores of triples, and whether the triples are true.

    :ivar relations: relation ids, int64, shape (n,)
    :ivar scores: higher is more likely to be true, float64, shape (n,)
    :ivar labels: bool, shape (n,), True for positives
    """

    relations: NDArray[np.int64]
    scores: NDArray[np.float64]
    labels: NDArray[np.bool_]

    def __post_init__(self) -> None:
        relations, scores = np.asarray(self.relations), np.asarray(self.scores)
        labels = np.asarray(self.labels)
        if not relations.shape == scores.shape == labels.shape or relations.ndim != 1:
            raise InvalidRequestError(
                f"relations, scores and labels have shapes {relations.shape}, {scores.shape} and "
                f"{labels.shape}; give (n,) each"
            )
        if not np.issubdtype(relations.dtype, np.integer) or labels.dtype != np.bool_:
            raise InvalidRequestError(
                f"relations are {relations.dtype}, labels {labels.dtype}; give integers and bools"
            )
        if np.isnan(scores).any():
            row = int(np.isnan(scores).argmax())
            raise InvalidRequestError(f"the score of row {row} is NaN; give numbers")
        if relations.size and relations.min() < 0:
            raise InvalidRequestError(f"relations have id {relations.min()}; give ids from 0 on")
        object.__setattr__(self, "relations", relations.astype(np.int64))
        object.__setattr__(self, "scores", scores.astype(np.float64))

    @classmethod
    def of_positives_and_negatives(
        cls,
        positive_relations: ArrayLike,
        positive_scores: ArrayLike,
        negative_relations: ArrayLike,
        negative_scores: ArrayLike,
    ) -> ClassifiedScores:
        """Join scores of positives, shape (p,), and of negatives, shape (q,).

        Leave out negatives that are masked.

        :raises InvalidRequestError: for other shapes, and scores that are NaN
        """
        given = (positive_relations, positive_scores, negative_relations, negative_scores)
        arrays = [np.asarray(each) for each in given]
        for relations, scores in (arrays[:2], arrays[2:]):
            if relations.shape != scores.shape or relations.ndim != 1:
                raise InvalidRequestError(
                    f"relations have shape {relations.shape}, their scores {scores.shape}; give "
                    f"(n,) each"
                )
        labels = np.repeat([True, False], [len(arrays[0]), len(arrays[2])])
        relations, scores = (np.concatenate([arrays[i], arrays[i + 2]]) for i in (0, 1))
        return cls(relations.astype(np.int64), scores, labels)


@dataclass(frozen=True, eq=False)
class TripleClassification:
    """How well scores tell true triples from others.

    :ivar accuracy: share of the test triples that are classified rightly
    :ivar auc: probability that a positive scores above a negative, ties as half, over all
        relations; NaN without both
    :ivar relation_auc: mean of the same within each relation, weighted by its test triples, over
        relations with both; NaN if there are none
    :ivar thresholds: by relation of the validation triples; a triple whose score is at least the
        threshold is classified as true
    :ivar global_threshold: that of all validation triples together
    :ivar fallback_relations: relations of test triples that have no threshold of their own, as
        validation has no positive or no negative of them: the global one is used
    :ivar num_fallback: test triples of these relations
    """

    accuracy: float
    auc: float
    relation_auc: float
    thresholds: dict[int, float]
    global_threshold: float
    fallback_relations: tuple[int, ...]
    num_fallback: int

    def __str__(self) -> str:
        """Report the metrics, and what fell back."""
        return (
            f"accuracy {self.accuracy:.4f}, AUC {self.auc:.4f}, within relations "
            f"{self.relation_auc:.4f}; {self.num_fallback} triples of "
            f"{len(self.fallback_relations)} relations have the global threshold"
        )


def classify_triples(validation: ClassifiedScores, test: ClassifiedScores) -> TripleClassification:
    """Classify test triples with a threshold for each relation, chosen on validation triples.

    As Socher et al. do ("Reasoning with neural tensor networks for knowledge base completion",
    NeurIPS 2013): the threshold of a relation is the one with the highest accuracy on its
    validation triples. Of several, it is the middle one in the order of scores, halfway between
    two neighbouring scores. A relation without a positive or without a negative in validation gets
    the threshold of all.

    :raises InvalidRequestError: without validation or without test triples
    """
    for name, given in (("validation", validation), ("test", test)):
        if not len(given.scores):
            raise InvalidRequestError(f"{name} has no triples; give some")
    global_threshold = best_threshold(validation.scores, validation.labels)
    thresholds = {
        relation: best_threshold(scores, labels)
        for relation, scores, labels in _by_relation(validation)
        if labels.any() and not labels.all()
    }
    num_right = num_fallback = 0
    fallback = []
    weights, aucs = [], []
    for relation, scores, labels in _by_relation(test):
        if relation not in thresholds:
            fallback.append(relation)
            num_fallback += len(scores)
        limit = thresholds.get(relation, global_threshold)
        num_right += int(((scores >= limit) == labels).sum())
        if labels.any() and not labels.all():
            aucs.append(auc(scores, labels))
            weights.append(len(scores))
    return TripleClassification(
        accuracy=num_right / len(test.scores),
        auc=auc(test.scores, test.labels),
        relation_auc=float(np.average(aucs, weights=weights)) if aucs else float("nan"),
        thresholds=thresholds,
        global_threshold=global_threshold,
        fallback_relations=tuple(fallback),
        num_fallback=num_fallback,
    )


def _by_relation(
    given: ClassifiedScores,
) -> list[tuple[int, NDArray[np.float64], NDArray[np.bool_]]]:
    order = np.argsort(given.relations, kind="stable")
    relations, starts = np.unique(given.relations[order], return_index=True)
    scores = np.split(given.scores[order], starts[1:])
    labels = np.split(given.labels[order], starts[1:])
    return list(zip(relations.tolist(), scores, labels, strict=True))


def best_threshold(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """Find the threshold with the highest accuracy; of several the middle one.

    :param scores: shape (n,), n at least 1
    :param labels: shape (n,)
    :return: halfway between two neighbouring scores; infinite where all or none are true
    """
    distinct, index = np.unique(scores, return_inverse=True)
    true = np.bincount(index, weights=labels, minlength=len(distinct))
    false = np.bincount(index, weights=~labels, minlength=len(distinct))
    # Right with a threshold below the i-th distinct score: false ones before, true ones from it on.
    right = np.concatenate([[0], np.cumsum(false)]) + np.concatenate(
        [np.cumsum(true[::-1])[::-1], [0]]
    )
    best = np.flatnonzero(right == right.max())
    at = int(best[(len(best) - 1) // 2])
    if at == 0:
        return -np.inf
    if at == len(distinct):
        return np.inf
    low, high = float(distinct[at - 1]), float(distinct[at])
    middle = low + (high - low) / 2
    return middle if low < middle <= high else high


def auc(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """Give the probability that a positive scores above a negative, ties as half.

    The area under the ROC curve, from ranks (Mann and Whitney, 1947).

    :param scores: shape (n,)
    :param labels: shape (n,)
    :return: NaN without positives or without negatives
    """
    num_true = int(labels.sum())
    num_false = len(labels) - num_true
    if not num_true or not num_false:
        return float("nan")
    _, index, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    above = float(ranks[index][labels].sum()) - num_true * (num_true + 1) / 2
    return above / (num_true * num_false)
