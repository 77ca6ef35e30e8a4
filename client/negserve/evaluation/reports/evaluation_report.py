"""What an evaluation found: the rank of every query."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from negserve.errors import InvalidRequestError
from negserve.evaluation.reports.cardinality import RELATION_KINDS
from negserve.evaluation.reports.metrics import METRIC_NAMES, metric, needs_candidates
from negserve.terminal.extras import needing
from negserve.types.config import SLOTS, Slot

Side = Literal["head", "tail", "relation", "both"]
RankType = Literal["optimistic", "realistic", "pessimistic"]
_RANK_TYPES = ("optimistic", "realistic", "pessimistic")

#: Version of the JSON.
_FORMAT = 1
_HEADINGS = {
    "MRR": "inverse_harmonic_mean_rank",
    "hits@1": "hits_at_1",
    "hits@3": "hits_at_3",
    "hits@10": "hits_at_10",
    "MR": "arithmetic_mean_rank",
    "AMRI": "adjusted_arithmetic_mean_rank_index",
}
_COLUMNS = ("slots", "relations", "optimistic", "pessimistic", "num_candidates")


@dataclass(frozen=True, eq=False)
class EvaluationReport:
    """The rank of every query; all metrics are computed from them when asked for.

    A query is a triple and the slot that was asked for. Ranks are kept, 33 bytes a query, rather
    than sums: so medians are exact, and any relation can be looked at later. Equal reports (``==``)
    have equal ranks. Reading one needs no torch.

    :ivar fingerprint: of the graph whose triples were filtered
    :ivar filter_splits: splits whose triples did not count as candidates; empty for raw ranks
    :ivar slots: what was asked for, as the number of the slot in (head, relation, tail), uint8,
        shape (q,): for each slot in turn all triples, in the order given
    :ivar relations: relation of each triple, int64, shape (q,)
    :ivar optimistic: 1 + candidates that score higher, int64, shape (q,)
    :ivar pessimistic: 1 + other candidates that score at least as high, int64, shape (q,)
    :ivar num_candidates: candidates that counted, with the target, int64, shape (q,)
    :ivar relation_kinds: of each relation, one of RELATION_KINDS, shape (num_relations,)
    """

    fingerprint: str
    filter_splits: tuple[str, ...]
    slots: NDArray[np.uint8]
    relations: NDArray[np.int64]
    optimistic: NDArray[np.int64]
    pessimistic: NDArray[np.int64]
    num_candidates: NDArray[np.int64]
    relation_kinds: NDArray[np.str_]

    def __len__(self) -> int:
        """Count the queries."""
        return len(self.slots)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EvaluationReport):
            return NotImplemented
        mine, others = self._document(), other._document()
        return mine == others

    def __hash__(self) -> int:
        return hash((self.fingerprint, self.filter_splits, self.optimistic.tobytes()))

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return (
            f"EvaluationReport({len(self)} queries of {'+'.join(self.sides)}, filtered by "
            f"{'+'.join(self.filter_splits) or 'nothing'}, fingerprint={self.fingerprint[:12]}...)"
        )

    @property
    def sides(self) -> tuple[Slot, ...]:
        """The slots that were asked for."""
        return tuple(SLOTS[slot] for slot in np.unique(self.slots))

    @property
    def realistic(self) -> NDArray[np.float64]:
        """The mean of both ranks, shape (q,)."""
        ranks: NDArray[np.float64] = (self.optimistic + self.pessimistic) / 2
        return ranks

    def metric(
        self,
        name: str,
        *,
        side: Side = "both",
        rank_type: RankType = "realistic",
        relation: int | None = None,
        relation_kind: str | None = None,
    ) -> float:
        """Compute a metric, of all queries or a part of them.

        :param name: PyKEEN's, one of METRIC_NAMES, or ``hits_at_<k>`` for any k
        :param side: the slot that was asked for; ``both`` for all
        :param rank_type: how ties count; ``adjusted_`` and ``z_`` metrics are realistic
        :param relation: an id, for its queries only
        :param relation_kind: one of RELATION_KINDS, likewise
        :raises InvalidRequestError: for another name, side, type or kind, and if no query is left
        """
        chosen = self._choose(side, relation, relation_kind)
        if not chosen.any():
            raise InvalidRequestError(
                f"no query has side={side}, relation={relation}, relation_kind={relation_kind}; "
                f"there are {len(self)} of {', '.join(self.sides)}"
            )
        return self._compute(name, chosen, rank_type)

    def metrics(
        self, *, side: Side = "both", rank_type: RankType = "realistic"
    ) -> dict[str, float]:
        """Compute all metrics that the rank type allows, by name."""
        chosen = self._choose(side, None, None)
        return {
            name: self._compute(name, chosen, rank_type)
            for name in METRIC_NAMES
            if rank_type == "realistic" or not needs_candidates(name)
        }

    def per_relation(
        self, name: str, *, side: Side = "both", rank_type: RankType = "realistic"
    ) -> dict[int, float]:
        """Compute a metric for each relation that has queries, by its id."""
        return {
            relation: self.metric(name, side=side, rank_type=rank_type, relation=relation)
            for relation in np.unique(self.relations[self._choose(side, None, None)]).tolist()
        }

    def per_relation_kind(
        self, name: str, *, side: Side = "both", rank_type: RankType = "realistic"
    ) -> dict[str, float]:
        """Compute a metric for each relation kind that has queries, by its name."""
        return {
            kind: self.metric(name, side=side, rank_type=rank_type, relation_kind=kind)
            for kind in self._present_kinds(side)
        }

    def table(self) -> str:
        """Return the usual metrics as text: of each side, and of each relation kind and side."""
        rows = [["", "queries", *_HEADINGS]]
        sides: list[Side] = [*self.sides, "both"] if len(self.sides) > 1 else [*self.sides]
        for kind in (None, *self._present_kinds("both")):
            rows += [self._row(side, kind) for side in sides]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
            for row in rows
        ]
        return "\n".join(line.rstrip() for line in lines)

    def to_json(self) -> str:
        """Write the report, with its main metrics for people; some 25 bytes a query."""
        document = self._document()
        sides: tuple[Side, ...] = (*self.sides, "both")
        document["metrics"] = {
            side: {name: self.metric(name, side=side) for name in _HEADINGS.values()}
            for side in sides
        }
        return json.dumps(document)

    @classmethod
    def from_json(cls, text: str | bytes) -> EvaluationReport:
        """Read what :meth:`to_json` wrote; metrics are computed again.

        :raises InvalidRequestError: for anything else
        """
        try:
            document = json.loads(text)
            if document["format"] != _FORMAT:
                raise InvalidRequestError(
                    f"the report has format {document['format']!r}; this version of negserve reads "
                    f"format {_FORMAT}"
                )
            report = cls(
                fingerprint=str(document["fingerprint"]),
                filter_splits=tuple(map(str, document["filter_splits"])),
                slots=np.array(document["slots"], dtype=np.uint8),
                **{
                    name: np.array(document[name], dtype=np.int64)
                    for name in _COLUMNS
                    if name != "slots"
                },
                relation_kinds=np.array(document["relation_kinds"], dtype=np.str_),
            )
            report._check()
        except (KeyError, TypeError, OverflowError) as error:
            raise InvalidRequestError(f"this is no report of an evaluation: {error!r}") from error
        except ValueError as error:
            if isinstance(error, InvalidRequestError):
                raise
            raise InvalidRequestError(f"this is no report of an evaluation: {error}") from error
        return report

    def plot(self, path: str | Path) -> None:
        """Draw, for each relation kind and side, the share of queries up to each rank.

        That is hits@k for every k. Realistic ranks, on a logarithmic axis.

        :param path: of the file; its ending says which format: png, pdf, svg and others
        :raises MissingLibraryError: without the extra ``plot``
        """
        with needing("EvaluationReport.plot", "negserve[plot]"):
            from matplotlib.figure import Figure
        kinds = self._present_kinds("both")
        figure = Figure(figsize=(3.2 * len(kinds), 3.2), layout="constrained")
        panels = figure.subplots(1, len(kinds), sharex=True, sharey=True, squeeze=False)[0]
        for panel, kind in zip(panels, kinds, strict=True):
            for side in self.sides:
                ranks = np.sort(self.realistic[self._choose(side, None, kind)])
                if len(ranks):
                    shares = np.arange(1, len(ranks) + 1) / len(ranks)
                    panel.step(ranks, shares, where="post", label=f"{side} ({len(ranks)})")
            panel.set(title=kind, xscale="log", xlabel="rank", ylim=(0, 1))
            panel.legend(fontsize="small")
        panels[0].set_ylabel("share of queries up to this rank")
        figure.savefig(path)

    def _document(self) -> dict[str, object]:
        columns = {name: getattr(self, name).tolist() for name in _COLUMNS}
        return {
            "format": _FORMAT,
            "fingerprint": self.fingerprint,
            "filter_splits": list(self.filter_splits),
            "relation_kinds": self.relation_kinds.tolist(),
            **columns,
        }

    def _check(self) -> None:
        """Check what was read.

        :raises ValueError: if it can't be
        """
        columns: Mapping[str, NDArray[np.integer]] = {n: getattr(self, n) for n in _COLUMNS}
        for name, column in columns.items():
            if column.ndim != 1 or len(column) != len(self) or len(self) == 0:
                raise ValueError(f"{name} has shape {column.shape}, slots {self.slots.shape}")
        kinds = self.relation_kinds
        if kinds.ndim != 1 or not set(kinds.tolist()) <= set(RELATION_KINDS):
            raise ValueError("relation_kinds has an unknown kind")
        if self.slots.max() >= len(SLOTS):
            raise ValueError(f"slots has {self.slots.max()}, the largest is {len(SLOTS) - 1}")
        if self.relations.min() < 0 or self.relations.max() >= len(kinds):
            raise ValueError(f"relations has an id that is not from 0 to {len(kinds) - 1}")
        ordered = (self.optimistic <= self.pessimistic) & (self.pessimistic <= self.num_candidates)
        if self.optimistic.min() < 1 or not ordered.all():
            raise ValueError("ranks are not in order: 1, optimistic, pessimistic, num_candidates")

    def _compute(self, name: str, chosen: NDArray[np.bool_], rank_type: RankType) -> float:
        if rank_type not in _RANK_TYPES:
            raise InvalidRequestError(f"rank_type={rank_type!r}; give one of {_RANK_TYPES}")
        if rank_type != "realistic" and needs_candidates(name):
            raise InvalidRequestError(
                f"{name} compares with random scores, where all ranks are equally likely; that "
                f"holds for realistic ranks, not for {rank_type} ones"
            )
        return metric(name, getattr(self, rank_type)[chosen], self.num_candidates[chosen])

    def _choose(
        self, side: Side, relation: int | None, relation_kind: str | None
    ) -> NDArray[np.bool_]:
        chosen = np.ones(len(self), dtype=np.bool_)
        if side != "both":
            if side not in SLOTS:
                raise InvalidRequestError(f"side={side!r}; give one of {(*SLOTS, 'both')}")
            chosen &= self.slots == SLOTS.index(side)
        if relation is not None:
            chosen &= self.relations == relation
        if relation_kind is not None:
            if relation_kind not in RELATION_KINDS:
                raise InvalidRequestError(
                    f"relation_kind={relation_kind!r}; give one of {RELATION_KINDS}"
                )
            chosen &= self.relation_kinds[self.relations] == relation_kind
        return chosen

    def _present_kinds(self, side: Side) -> tuple[str, ...]:
        found = set(self.relation_kinds[self.relations[self._choose(side, None, None)]].tolist())
        return tuple(kind for kind in RELATION_KINDS if kind in found)

    def _row(self, side: Side, kind: str | None) -> list[str]:
        chosen = self._choose(side, None, kind)
        cells = [f"{kind} {side}" if kind else side, str(int(chosen.sum()))]
        if not chosen.any():
            return cells + ["-"] * len(_HEADINGS)
        return cells + [
            f"{self._compute(name, chosen, 'realistic'):.{1 if heading == 'MR' else 4}f}"
            for heading, name in _HEADINGS.items()
        ]
