"""PyKEEN's rank-based evaluators, whose filters come from a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pykeen.constants import TARGET_TO_INDEX
from pykeen.evaluation import evaluator_resolver
from pykeen.evaluation.evaluator import MetricResults
from pykeen.evaluation.rank_based_evaluator import MacroRankBasedEvaluator, RankBasedEvaluator

from negserve.errors import InvalidRequestError
from negserve.evaluation import EvaluationSet
from negserve.integrations.pykeen.evaluation_graph import EvaluationGraph, FoundSplits
from negserve.integrations.pykeen.pinned_candidates import PinnedCandidates
from negserve.types.config import SamplerConfig
from negserve.types.kinds import Kind


class _RemoteEvaluator:
    """Finds the graph of an evaluation, in place of PyKEEN's filter.

    To be inherited together with one of PyKEEN's evaluators.
    """

    filtered: bool

    def __init__(
        self,
        *,
        filtered: bool = True,
        target: str | Sequence[str] | None = None,
        dataset: str | None = None,
        timeout: float = 30.0,
        patience: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(filtered=filtered, **kwargs)  # type: ignore[call-arg]
        self.graph = EvaluationGraph(
            target=target, dataset=dataset, timeout=timeout, patience=patience
        )
        self._found: FoundSplits | None = None
        self._column_of_entity: torch.Tensor | None = None

    def evaluate(
        self,
        model: Any,
        mapped_triples: torch.Tensor,
        *args: Any,
        restrict_entities_to: Any = None,
        additional_filter_triples: torch.Tensor | list[torch.Tensor] | None = None,
        **kwargs: Any,
    ) -> MetricResults[Any]:
        """Evaluate a model; parameters and result as of PyKEEN's method.

        :raises UnknownDatasetError: if no dataset has the triples, and the server accepts none
        :raises InvalidRequestError: if the dataset of that name has other triples
        :raises NegserveError: for any other error of the server
        """
        is_filtered: bool = self.filtered
        if is_filtered:
            others = additional_filter_triples
            others = [] if others is None else [others] if torch.is_tensor(others) else list(others)
            self._found = self.graph.find([*others, mapped_triples])
        if restrict_entities_to is not None:
            restrict_entities_to = torch.as_tensor(list(restrict_entities_to), dtype=torch.int64)
            self._column_of_entity = _inverse(restrict_entities_to, model.num_entities)
        # Otherwise PyKEEN would compare each batch with all triples.
        self.filtered = False
        try:
            self._begin(mapped_triples)
            return super().evaluate(  # type: ignore[misc]
                model,
                mapped_triples,
                *args,
                restrict_entities_to=restrict_entities_to,
                **kwargs,
            )
        finally:
            self.filtered = is_filtered
            self._found = self._column_of_entity = None

    def _begin(self, mapped_triples: torch.Tensor) -> None:
        """Prepare for an evaluation, whose graph was found if there is a filter."""

    def _columns(self, entities: torch.Tensor) -> torch.Tensor:
        """Give the column of scores of each entity, -1 for one that is left out."""
        if self._column_of_entity is None:
            return entities
        return self._column_of_entity.to(entities.device)[entities]


class _RemoteFilter(_RemoteEvaluator):
    """Filters scores before an evaluator ranks them."""

    def process_scores_(
        self,
        hrt_batch: torch.Tensor,
        target: Any,
        scores: torch.Tensor,
        true_scores: torch.Tensor | None = None,
        dense_positive_mask: torch.Tensor | None = None,
    ) -> None:
        """Filter the scores of a batch, in place, and rank the true ones among them."""
        column = TARGET_TO_INDEX[target]
        rows = torch.arange(len(hrt_batch), device=scores.device)
        own = self._columns(hrt_batch[:, column])
        true_scores = scores[rows, own]
        if self._found is not None:
            pairs = hrt_batch[:, [other for other in range(3) if other != column]]
            known = self._found.factory.known(pairs.cpu().numpy(), target, self._found.splits)
            rows_of_values = torch.from_numpy(known.rows()).to(scores.device)
            values = torch.from_numpy(known.values.astype("int64")).to(scores.device)
            values = self._columns(values)
            is_there = values >= 0
            scores[rows_of_values[is_there], values[is_there]] = float("nan")
            scores[rows, own] = true_scores
        super().process_scores_(  # type: ignore[misc]
            hrt_batch, target, scores, true_scores.unsqueeze(1), dense_positive_mask
        )


def _inverse(chosen: torch.Tensor, num_entities: int) -> torch.Tensor:
    """Give the place of each entity among those chosen, -1 for others."""
    if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < num_entities:
        raise InvalidRequestError(
            f"restrict_entities_to has ids outside 0 to {num_entities - 1}",
            reason="ENTITY_ID_OUT_OF_RANGE",
            metadata={"limit": str(num_entities)},
        )
    columns = torch.full((num_entities,), -1, dtype=torch.int64)
    columns[chosen] = torch.arange(len(chosen))
    return columns


class RemoteRankBasedEvaluator(_RemoteFilter, RankBasedEvaluator):  # type: ignore[misc]
    """PyKEEN's ``RankBasedEvaluator``, with equal results, filtered by a server.

    The evaluated and all ``additional_filter_triples`` together are filtered, as in PyKEEN. They
    must be splits of a dataset of the server, or parts of these splits; else they are published
    once, if the server allows that. A batch asks for the known values of its own pairs, so
    nothing is kept that grows with the graph.

    :param target: ``HOST:PORT`` or ``unix:PATH`` of the server, or several of replicas; None for
        the environment variable ``NEGSERVE_TARGET``, and without it for ``127.0.0.1:7733``
    :param dataset: the dataset's name there; None to find it by the fingerprints of the triples
    :param filtered: whether other known triples are left out of the ranking
    :param timeout: as for :class:`negserve.Client`
    :param patience: as for :class:`negserve.Client`
    :param kwargs: as for PyKEEN's evaluator
    """


class RemoteMacroRankBasedEvaluator(_RemoteFilter, MacroRankBasedEvaluator):  # type: ignore[misc]
    """PyKEEN's ``MacroRankBasedEvaluator``, with equal results, filtered by a server.

    Parameters as of :class:`RemoteRankBasedEvaluator`.
    """


class RemoteSampledRankBasedEvaluator(_RemoteEvaluator, RankBasedEvaluator):  # type: ignore[misc]
    """Ranks each true answer among sampled candidates, as PyKEEN's ``SampledRankBasedEvaluator``.

    The candidates are a :class:`negserve.evaluation.EvaluationSet` of the evaluated triples:
    exactly filtered, and the same for everybody with the same triples and parameters. PyKEEN's own
    evaluator gives equal results for these candidates. Metrics of samples are not those of all
    entities; :class:`negserve.evaluation.SampledRanks` estimates these.

    :param num_negatives: candidates of each query besides the true answer
    :param kind: their distribution: a kind of :class:`negserve.SamplerConfig`
    :param distinct: whether the candidates of a query are pairwise different; where there are
        fewer legal ones, fewer count. False for kinds that can't
    :param seed: of the candidates
    :param target: as for :class:`RemoteRankBasedEvaluator`, and so are all others
    :ivar evaluation_set: the candidates of the last evaluation; None before
    """

    def __init__(
        self,
        *,
        num_negatives: int = 50,
        kind: Kind = "basic",
        distinct: bool = True,
        seed: int = 0,
        target: str | Sequence[str] | None = None,
        dataset: str | None = None,
        timeout: float = 30.0,
        patience: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            target=target, dataset=dataset, timeout=timeout, patience=patience, **kwargs
        )
        if not self.filtered:
            raise InvalidRequestError(
                "filtered=False is not legal: candidates are never known triples",
                reason="INVALID_CONFIGURATION",
                metadata={"field": "filtered", "value": "False"},
            )
        # Illegal options are refused here, before anything is sent.
        self._sampler = SamplerConfig(
            kind=kind,
            num_negs_per_pos=num_negatives,
            corruption_scheme=("head", "tail"),
            filter_splits=("training",),
            distinct=distinct,
            seed=seed,
        )
        self.evaluation_set: EvaluationSet | None = None
        self._candidates: PinnedCandidates | None = None

    def _begin(self, mapped_triples: torch.Tensor) -> None:
        if self._column_of_entity is not None:
            raise InvalidRequestError(
                "restrict_entities_to is not possible with sampled candidates; give kind='typed' "
                "or 'pseudotyped', or evaluate with 'remoterankbased'",
                reason="INVALID_CONFIGURATION",
                metadata={"field": "restrict_entities_to"},
            )
        assert self._found is not None
        self._candidates = PinnedCandidates.of(self._found, self._sampler, mapped_triples)
        self.evaluation_set = self._candidates.evaluation_set

    def process_scores_(
        self,
        hrt_batch: torch.Tensor,
        target: Any,
        scores: torch.Tensor,
        true_scores: torch.Tensor | None = None,
        dense_positive_mask: torch.Tensor | None = None,
    ) -> None:
        """Rank the true scores of a batch among those of its candidates."""
        assert self._candidates is not None
        true_scores = scores.gather(1, hrt_batch[:, TARGET_TO_INDEX[target], None])
        candidates, mask = self._candidates.of_batch(hrt_batch, target)
        # PyKEEN leaves NaN out.
        others = scores.gather(1, candidates).masked_fill(~mask, float("nan"))
        num_entities = scores.shape[1]
        super().process_scores_(
            hrt_batch, target, torch.cat([true_scores, others], 1), true_scores, dense_positive_mask
        )
        self.num_entities = num_entities


# Here, since the import of PyKEEN's evaluators may be this module's own.
for _cls in (
    RemoteMacroRankBasedEvaluator,
    RemoteRankBasedEvaluator,
    RemoteSampledRankBasedEvaluator,
):
    evaluator_resolver.register(_cls)
