"""Evaluates a model by the ranks of held-out triples."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from negserve.errors import InvalidRequestError
from negserve.evaluation.evaluated_graph import (
    num_ids_of,
    splits_to_filter,
    triples_to_evaluate,
)
from negserve.evaluation.ranking.known_index import KnownIndex
from negserve.evaluation.ranking.progress_bar import progress_bar
from negserve.evaluation.ranking.queries import query_batches, read_ahead
from negserve.evaluation.ranking.rank_group import RankGroup
from negserve.evaluation.ranking.score_function import ScoreFunction
from negserve.evaluation.ranking.score_ranks import ranks
from negserve.evaluation.ranking.scoring import (
    as_score_function,
    checked_scores,
    device_of,
    evaluating,
)
from negserve.evaluation.reports.cardinality import relation_kinds
from negserve.evaluation.reports.evaluation_report import EvaluationReport
from negserve.types.checks.invalid import check_integer
from negserve.types.config import SLOTS, Slot
from negserve.types.triples_factory import TriplesFactory
from negserve.types.warning_categories import UnknownPositivesWarning, warn

#: Below this share of known triples, they are taken for those of another id space.
_FEW_KNOWN = 0.1


def evaluate(
    model: Any | ScoreFunction,
    graph: TriplesFactory,
    triples: ArrayLike | Tensor | None = None,
    *,
    split: str | None = None,
    slots: Sequence[Slot] = ("head", "tail"),
    filter_splits: Sequence[str] | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    share_among_ranks: bool = True,
    progress: bool = True,
) -> EvaluationReport:
    """Rank held-out triples among all ids that don't make another known triple.

    For each triple and slot the model scores every id. The other known answers are left out, which
    the graph is asked for, two batches ahead, while the model scores. Memory: the scores of a
    batch, the known answers of four, and 49 bytes a query for the ranks.

    Within torch.distributed all ranks have to call it. They share the queries, each of which is
    ranked once, and all get the report that one process alone would get.

    :param model: a PyKEEN model, or a function ``score(pairs, slot)``, see
        :class:`negserve.evaluation.ScoreFunction`. A module is in evaluation mode meanwhile
    :param graph: a triples factory, remote, in process or computed on the client
    :param triples: those to evaluate, ids of the graph, integers, shape (n, 3). A remote graph does
        not give the triples of its splits, so it needs them
    :param split: in their place, the name of their split, where the graph is in this process
        (``negserve_server.graph.TriplesFactory``) or on this machine (``compute="client"``)
    :param slots: what is asked for, each once
    :param filter_splits: splits whose triples are known; None for all that the graph has, as in
        the literature; () for raw ranks
    :param batch_size: queries scored at once; None for as many as give 2^24 scores, at most 1024
    :param device: where the pairs go that the model gets; None for that of its first parameter
    :param share_among_ranks: False where not all ranks of torch.distributed call it
    :param progress: whether a bar is shown; there is none without a terminal, and only on rank 0
    :raises InvalidRequestError: for triples, splits, slots or scores that are not legal, and on
        all ranks if they evaluate different things
    :raises UnknownPositivesWarning: where Python is told to raise it, if less than a tenth of the
        triples are in the splits that are filtered by: their ids may be those of another graph
    :raises NegserveError: as the server's status says; on ranks without an error if another has
        one, so that none waits for it
    """
    group = RankGroup(share_among_ranks)
    with group.together():
        score = as_score_function(model)
        rows = _rows(graph, triples, split)
        splits = splits_to_filter(graph, filter_splits)
        slots = _checked_slots(slots)
        if batch_size is not None:
            check_integer("batch_size", batch_size, 1, 2**31)
        place = device_of(model) if device is None else torch.device(device)
        kinds = relation_kinds(graph.relation_statistics)
    group.check_equal(graph.fingerprint, rows.tobytes(), splits, slots, batch_size)
    batches = group.part(query_batches(graph, rows, slots, batch_size))
    found = torch.zeros((5, len(slots) * len(rows)), dtype=torch.int64, device=place)
    show = progress and group.rank == 0
    with (
        group.together(),
        evaluating(model),
        progress_bar("evaluating", len(batches), is_shown=show) as advance,
        closing(read_ahead(graph, rows, slots, batches, splits)) as ready,
    ):
        for batch, values in ready:
            num_ids = num_ids_of(graph, batch.slot)
            pairs = torch.from_numpy(batch.pairs).to(place)
            scores = checked_scores(score(pairs, batch.slot), len(pairs), num_ids)
            targets = torch.from_numpy(batch.targets).to(scores.device)
            known = None if values is None else KnownIndex.of(values, num_ids, scores.device)
            end = batch.begin + len(pairs)
            found[:, batch.begin : end] = _ranked(scores, targets, known).to(place)
            advance(1)
    joined: NDArray[np.int64] = group.join(found).cpu().numpy()
    optimistic, pessimistic, num_candidates, is_known, times = joined
    assert (times == 1).all(), "each query is ranked once"
    if splits:
        _warn_of_unknown(int(is_known.sum()), len(is_known), splits)
    return EvaluationReport(
        fingerprint=graph.fingerprint,
        filter_splits=splits,
        slots=np.repeat(np.array([SLOTS.index(slot) for slot in slots], np.uint8), len(rows)),
        relations=np.tile(rows[:, 1], len(slots)),
        optimistic=optimistic,
        pessimistic=pessimistic,
        num_candidates=num_candidates,
        relation_kinds=kinds,
    )


def _rows(
    graph: TriplesFactory, triples: ArrayLike | Tensor | None, split: str | None
) -> NDArray[np.int64]:
    rows = triples_to_evaluate(graph, triples, split)
    if len(rows) == 0:
        raise InvalidRequestError("there are no triples to evaluate")
    return rows


def _ranked(scores: Tensor, targets: Tensor, known: KnownIndex | None) -> Tensor:
    """Rank a batch: both ranks, candidates, whether the target is known, and 1; shape (5, n)."""
    found = ranks(scores, targets, excluded=known)
    is_known = torch.zeros_like(targets)
    if known is not None:
        is_target = known.columns == targets[known.rows]
        is_known.index_add_(0, known.rows, is_target.long())
    return torch.stack(
        [
            found.optimistic,
            found.pessimistic,
            found.num_candidates,
            is_known,
            torch.ones_like(targets),
        ]
    )


def _checked_slots(slots: Sequence[Slot]) -> tuple[Slot, ...]:
    if (
        isinstance(slots, str)
        or not slots
        or len(set(slots)) != len(slots)
        or not set(slots) <= set(SLOTS)
    ):
        raise InvalidRequestError(f"slots={slots!r}; give some of {SLOTS}, each once")
    return tuple(slots)


def _warn_of_unknown(num_known: int, num_queries: int, splits: Sequence[str]) -> None:
    if num_known < _FEW_KNOWN * num_queries:
        warn(
            f"only {num_known} of {num_queries} queries are of triples in {', '.join(splits)}: if "
            f"the ids are not those of this graph, their known answers are wrong, and so are the "
            f"ranks",
            UnknownPositivesWarning,
        )
