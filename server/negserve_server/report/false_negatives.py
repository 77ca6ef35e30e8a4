"""The false-negative report: how often unfiltered negatives of a graph are known triples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negserve.types.checks.invalid import invalid_configuration
from negserve.types.config import SPLITS, SamplerConfig, Slot, Split
from negserve.types.kinds import KINDS, PART_KINDS, Kind
from negserve_server.graph.triples_factory import TriplesFactory
from negserve_server.report.false_negative_counter import FalseNegativeCounter, Probabilities

_DEFAULT_ALPHA = 0.75


@dataclass(frozen=True, slots=True)
class FalseNegativeReport:
    """Exact probabilities that a negative drawn without a filter is a known triple.

    The positives are the distinct training triples, each as likely as any other; a mean over the
    triples of a relation without any is NaN. ``docs/sampling.md``, *False negatives*, has the
    formulas. Probabilities are quotients of counted units, rounded to float64 and added up;
    nothing is sampled. Arrays are read-only; slots are in the order of ``corruption_scheme``.

    :ivar kind: of the sampler
    :ivar alpha: exponent of kind ``degree``; None for the others
    :ivar splits: splits whose triples are known
    :ivar corruption_scheme: slots that are replaced, in the order head, relation, tail
    :ivar num_triples: training triples, int64, shape (num_relations,)
    :ivar num_saturated: training triples for which the kind has no candidate in any slot, so that
        the sampler draws any id instead, int64, shape (num_relations,)
    :ivar slot_probability: probability that a negative with the slot replaced is known, mean over
        the relation's training triples, float64, shape (num_relations, slots); a triple for which
        the slot has no candidate counts as 0
    :ivar slot_share: share of the relation's negatives that replace the slot by one of its
        candidates, float64, shape (num_relations, slots); what is missing to 1 are the negatives
        of saturated triples
    :ivar relation_probability: probability that a negative of the relation is known, float64,
        shape (num_relations,)
    :ivar probability: probability that a negative is known, over all training triples
    """

    kind: Kind
    alpha: float | None
    splits: tuple[Split, ...]
    corruption_scheme: tuple[Slot, ...]
    num_triples: NDArray[np.int64]
    num_saturated: NDArray[np.int64]
    slot_probability: NDArray[np.float64]
    slot_share: NDArray[np.float64]
    relation_probability: NDArray[np.float64]
    probability: float

    def expected(self, num_negs_per_pos: int = 1) -> NDArray[np.float64]:
        """Give the expected false negatives of each relation in an epoch; shape (num_relations,).

        :param num_negs_per_pos: k, negatives per positive
        """
        means: NDArray[np.float64] = np.nan_to_num(self.relation_probability, nan=0.0)
        return means * self.num_triples * num_negs_per_pos

    def largest(self, count: int = 0) -> NDArray[np.int64]:
        """Relations that have training triples, those with most false negatives first.

        :param count: how many at most; 0 for all
        :return: ids, shape (m,); equal ones ascending
        """
        order = np.argsort(-self.expected(), kind="stable")
        order = order[self.num_triples[order] > 0]
        return order[:count] if count else order

    def to_dict(
        self,
        num_negs_per_pos: int = 1,
        *,
        labels: Sequence[str] | None = None,
        top: int = 0,
    ) -> dict[str, Any]:
        """Give the report as JSON takes it.

        :param num_negs_per_pos: k of the expected numbers
        :param labels: labels of all relations
        :param top: how many relations at most, see :meth:`largest`
        """
        expected = self.expected(num_negs_per_pos)
        relations = [
            {
                "relation_id": relation,
                **({"relation": labels[relation]} if labels is not None else {}),
                "num_triples": int(self.num_triples[relation]),
                "num_saturated": int(self.num_saturated[relation]),
                "probability": float(self.relation_probability[relation]),
                "expected_false_negatives": float(expected[relation]),
                "slots": {
                    slot: {
                        "probability": float(self.slot_probability[relation, i]),
                        "share": float(self.slot_share[relation, i]),
                    }
                    for i, slot in enumerate(self.corruption_scheme)
                },
            }
            for relation in self.largest(top).tolist()
        ]
        return {
            "kind": self.kind,
            **({"alpha": self.alpha} if self.alpha is not None else {}),
            "splits": list(self.splits),
            "corruption_scheme": list(self.corruption_scheme),
            "num_triples": int(self.num_triples.sum()),
            "num_saturated": int(self.num_saturated.sum()),
            "num_negs_per_pos": num_negs_per_pos,
            "probability": self.probability,
            "expected_false_negatives": float(
                num_negs_per_pos * self.num_triples.sum() * self.probability
            ),
            "relations": relations,
        }


def false_negative_report(
    factory: TriplesFactory,
    *,
    kinds: Sequence[Kind] | None = None,
    splits: Sequence[Split] | None = None,
    corruption_scheme: Sequence[Slot] = ("head", "tail"),
    alpha: float = _DEFAULT_ALPHA,
    progress: Callable[[Kind], object] | None = None,
) -> dict[Kind, FalseNegativeReport]:
    """Compute how probable it is that unfiltered negatives of training triples are known.

    :param factory: the graph
    :param kinds: kinds of samplers, without mixtures; None for all that the graph and the
        corruption scheme allow
    :param splits: splits whose triples are known; None for all of the graph
    :param corruption_scheme: slots that are replaced
    :param alpha: exponent of kind ``degree``
    :param progress: called with each kind before the work on it begins
    :return: a report per kind, in the order of ``kinds``
    :raises InvalidRequestError: naming what the graph can't serve
    """
    if kinds is None:
        kinds = [kind for kind in PART_KINDS if _is_possible(kind, factory, corruption_scheme)]
    if not kinds or set(kinds) - set(PART_KINDS):
        raise invalid_configuration("kinds", tuple(kinds), f"give some of {', '.join(PART_KINDS)}")
    if alpha != _DEFAULT_ALPHA and not any(KINDS[kind].takes_alpha for kind in kinds):
        raise invalid_configuration("alpha", alpha, "it has no effect without kind degree")
    chosen = tuple(split for split in SPLITS if splits is None or split in splits)
    if splits is None:
        chosen = tuple(split for split in chosen if split in factory.columns)
    unknown = [split for split in splits or chosen if split not in factory.columns]
    if unknown or not chosen:
        raise invalid_configuration(
            "splits", tuple(splits or ()), f"this graph has {', '.join(factory.columns)}"
        )
    configs = [
        SamplerConfig(
            kind=kind,
            corruption_scheme=tuple(corruption_scheme),
            alpha=alpha if KINDS[kind].takes_alpha else _DEFAULT_ALPHA,
        )
        for kind in dict.fromkeys(kinds)
    ]
    counter = FalseNegativeCounter(
        factory.mapped_triples, np.concatenate([factory.columns[split].array() for split in chosen])
    )
    reports: dict[Kind, FalseNegativeReport] = {}
    for config in configs:
        if progress is not None:
            progress(config.kind)
        found = counter.probabilities(factory.sampler(config).tables)
        reports[config.kind] = _report(
            config, chosen, found, counter.relations, factory.num_relations
        )
    return reports


def _is_possible(kind: Kind, factory: TriplesFactory, scheme: Sequence[Slot]) -> bool:
    if KINDS[kind].needs_type_constraints and factory.type_constraints is None:
        return False
    return "relation" not in scheme or KINDS[kind].takes_relations


def _report(
    config: SamplerConfig,
    splits: tuple[Split, ...],
    found: Probabilities,
    relations: NDArray[np.int64],
    num_relations: int,
) -> FalseNegativeReport:
    """Take means over the training triples of each relation.

    :param relations: of the training triples, ascending
    """
    num_triples = np.bincount(relations, minlength=num_relations)
    present = np.flatnonzero(num_triples)
    starts = np.searchsorted(relations, present)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        means = np.full(num_relations, np.nan)
        means[present] = np.add.reduceat(values, starts) / num_triples[present]
        return means

    report = FalseNegativeReport(
        kind=config.kind,
        alpha=config.alpha if KINDS[config.kind].takes_alpha else None,
        splits=splits,
        corruption_scheme=config.corruption_scheme,
        num_triples=num_triples,
        num_saturated=np.bincount(relations[found.is_saturated], minlength=num_relations),
        slot_probability=np.stack([mean(values) for values in found.by_slot], axis=1),
        slot_share=np.stack([mean(values) for values in found.shares], axis=1),
        relation_probability=mean(found.overall),
        probability=float(found.overall.mean()),
    )
    for array in (
        report.num_triples,
        report.num_saturated,
        report.slot_probability,
        report.slot_share,
        report.relation_probability,
    ):
        array.flags.writeable = False
    return report
