"""A negative sampler for TorchKGE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from negserve.errors import InvalidRequestError
from negserve.integrations.unmasked import check_unmasked
from negserve.sampling import NegativeSampler, TriplesFactory, get_negative_sampler_cls
from negserve.sampling.positions import Positions
from negserve.terminal.extras import needing

with needing("negserve.integrations.torchkge", "torchkge"):
    import torch
    from torchkge.data_structures import KnowledgeGraph
    from torchkge.sampling import NegativeSampler as TorchKgeNegativeSampler

_LIBRARY = "TorchKGE"


class RemoteNegativeSampler(TorchKgeNegativeSampler):  # type: ignore[misc]  # it has no types
    """Draws the negatives of a TorchKGE training from negserve.

    TorchKGE has no mask: where filtering leaves a positive no legal value, its negatives are drawn
    without filter.

    :param kg: the training graph, with the ids of ``graph``: made with
        ``ent2ix=graph.entity_to_id, rel2ix=graph.relation_to_id``
    :param kg_val: validation graph, for ``corrupt_kg(which="val")``
    :param kg_test: test graph, for ``corrupt_kg(which="test")``
    :param n_neg: negatives per positive, k
    :param graph: the same graph, on a server or in process
    :param sampler: kind of negatives, by name or class of :mod:`negserve.sampling`
    :param filtered: whether known triples are never drawn
    :param options: further options of that sampler, such as ``seed``, ``filter_splits``,
        ``candidates``, ``rank`` and ``world_size``
    :raises InvalidRequestError: if ``kg`` is not the graph ``graph``, for options with a mask,
        which TorchKGE does not support, or for a scheme that replaces relations
    """

    def __init__(
        self,
        kg: KnowledgeGraph,
        kg_val: KnowledgeGraph | None = None,
        kg_test: KnowledgeGraph | None = None,
        n_neg: int = 1,
        *,
        graph: TriplesFactory,
        sampler: str | type[NegativeSampler] = "bernoulli",
        filtered: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(kg, kg_val, kg_test, n_neg)
        for of in (kg, kg_val, kg_test):
            if of is not None and (of.n_ent, of.n_rel) != (graph.num_entities, graph.num_relations):
                raise InvalidRequestError(
                    f"the knowledge graph has {of.n_ent} entities and {of.n_rel} relations, but "
                    f"{graph!r} has {graph.num_entities} and {graph.num_relations}; {_REMEDY}"
                )
        triples = torch.stack([kg.head_idx, kg.relations, kg.tail_idx], dim=1)
        num_unknown = int((~graph.contains(triples.cpu().numpy(), ["training"])).sum())
        if num_unknown:
            raise InvalidRequestError(
                f"{num_unknown} of {len(triples)} facts of the knowledge graph are not training "
                f"triples of {graph!r}; {_REMEDY}"
            )
        self._graph = graph
        self._cls = get_negative_sampler_cls(sampler)
        self._options = {"filtered": filtered, **options}
        # TorchKGE's own loops ask one sampler for different numbers of negatives of the same
        # positives: all of these samplers share one counter of positions.
        self._positions = Positions(1, options.get("rank"), options.get("world_size"))
        self._samplers: dict[int, NegativeSampler] = {}
        first = self._sampler(n_neg)
        check_unmasked(first, _LIBRARY)
        if "relation" in first.corruption_scheme:
            raise InvalidRequestError(
                f"corruption_scheme={first.corruption_scheme}; TorchKGE supports replaced heads "
                f"and tails only"
            )

    def _sampler(self, n_neg: int) -> NegativeSampler:
        if n_neg not in self._samplers:
            self._samplers[n_neg] = self._cls(self._graph, n_neg, **self._options)
        return self._samplers[n_neg]

    def state_dict(self) -> dict[str, Any]:
        """Return the positions, as :meth:`negserve.sampling.NegativeSampler.state_dict` does."""
        return self._positions.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state of :meth:`state_dict`.

        :raises InvalidRequestError: if it is not such a state, or in a worker of a DataLoader
        """
        self._positions.load_state_dict(state)

    def corrupt_batch(
        self,
        heads: torch.Tensor,
        tails: torch.Tensor,
        relations: torch.Tensor | None = None,
        n_neg: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw negatives of a batch, at the positions after those of the previous call.

        :param heads: head ids, integer, shape (b,), any device
        :param tails: tail ids, integer, shape (b,), any device
        :param relations: relation ids, integer, shape (b,), any device; required, although
            TorchKGE's interface makes it optional
        :param n_neg: negatives per positive, k; None for that of the sampler
        :return: heads and tails of the negatives, int64, shape (k * b,), on the device of the
            heads: the first negative of each positive, then the second of each, and so on
        :raises InvalidRequestError: without relations, or for ids outside the graph
        """
        if relations is None:
            raise InvalidRequestError("relations=None; give the relation of each positive")
        sampler = self._sampler(self.n_neg if n_neg is None else n_neg)
        positives = torch.stack([heads, relations, tails], dim=1)
        negatives, _ = sampler.sample(positives, self._positions.take(len(positives)))
        by_round = negatives.transpose(0, 1).reshape(-1, 3)
        return by_round[:, 0], by_round[:, 2]


_REMEDY = "make it with ent2ix=graph.entity_to_id, rel2ix=graph.relation_to_id, of the same triples"
