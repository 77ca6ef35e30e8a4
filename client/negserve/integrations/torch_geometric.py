"""Negatives for PyTorch Geometric (PyG)."""

from __future__ import annotations

from typing import Any, NamedTuple

from negserve.errors import InvalidRequestError
from negserve.integrations.unmasked import check_unmasked
from negserve.sampling import NegativeSampler
from negserve.terminal.extras import needing

with needing("negserve.integrations.torch_geometric", "torch-geometric"):
    import torch
    from torch_geometric.nn.kge import KGEModel


class NegativeEdges(NamedTuple):
    """Negatives of b edges, k each; the k negatives of an edge are consecutive.

    :ivar edge_index: heads and tails, int64, shape (2, b * k)
    :ivar edge_type: relations, int64, shape (b * k,)
    :ivar mask: bool, shape (b * k,), True where valid; None if all are valid
    """

    edge_index: torch.Tensor
    edge_type: torch.Tensor
    mask: torch.Tensor | None


def negative_edges(
    sampler: NegativeSampler,
    edge_index: torch.Tensor,
    edge_type: torch.Tensor,
    *,
    position: int | None = None,
) -> NegativeEdges:
    """Draw negatives of edges.

    :param sampler: draws k negatives per positive, over the graph that has these ids
    :param edge_index: heads and tails, integer, shape (2, b), any device
    :param edge_type: relations, integer, shape (b,), same device
    :param position: position of the first edge; None to continue after the last call
    :return: negatives on the device of the edges
    :raises InvalidRequestError: for other shapes, or ids outside the graph
    """
    if edge_index.ndim != 2 or len(edge_index) != 2 or edge_type.shape != edge_index.shape[1:]:
        raise InvalidRequestError(
            f"edge_index has shape {tuple(edge_index.shape)}, edge_type {tuple(edge_type.shape)}; "
            f"give (2, b) and (b,)",
            reason="SHAPE_MISMATCH",
        )
    positives = torch.stack([edge_index[0], edge_type, edge_index[1]], dim=1)
    negatives, mask = sampler.sample(positives, position)
    heads, relations, tails = negatives.reshape(-1, 3).unbind(dim=1)
    return NegativeEdges(
        torch.stack([heads, tails]), relations, None if mask is None else mask.reshape(-1)
    )


class RemoteSampling(KGEModel):  # type: ignore[misc]  # it has no types
    """Mix-in: a knowledge graph model of PyG whose loss draws its negatives from a sampler.

    Define ``class SampledTransE(RemoteSampling, TransE): ...``; ``loader``, ``loss`` and ``test``
    are PyG's. Models whose loss compares positives and negatives one by one (TransE, DistMult)
    need a sampler with one negative per positive. PyG has no mask: where filtering leaves a
    positive no legal value, its negatives are drawn without filter.

    :param args: arguments of the model
    :param negative_sampler: a sampler over the graph that has the model's ids
    :param kwargs: keyword arguments of the model
    :raises InvalidRequestError: if the sampler's graph has another number of entities or
        relations than the model, or the sampler's mask can't be ignored
    """

    def __init__(self, *args: Any, negative_sampler: NegativeSampler, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_unmasked(negative_sampler, "PyG")
        ours = (negative_sampler.num_entities, negative_sampler.num_relations)
        if (self.num_nodes, self.num_relations) != ours:
            raise InvalidRequestError(
                f"the model has {self.num_nodes} nodes and {self.num_relations} relations, but the "
                f"sampler's graph {ours[0]} and {ours[1]}; both need the same ids"
            )
        self.negative_sampler = negative_sampler

    @torch.no_grad()
    def random_sample(
        self, head_index: torch.Tensor, rel_type: torch.Tensor, tail_index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw negatives; called by a model's loss.

        :param head_index: head ids of b triples, shape (b,)
        :param rel_type: relation ids, shape (b,)
        :param tail_index: tail ids, shape (b,)
        :return: heads, relations and tails of the negatives, int64, shape (b * k,)
        """
        edges = torch.stack([head_index, tail_index])
        drawn = negative_edges(self.negative_sampler, edges, rel_type)
        return drawn.edge_index[0], drawn.edge_type, drawn.edge_index[1]
