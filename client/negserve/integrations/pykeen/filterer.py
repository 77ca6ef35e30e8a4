"""A filterer that asks a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from pykeen.sampling.filtering import Filterer

from negserve.errors import InvalidRequestError
from negserve.integrations.pykeen.inverse_triples import without_inverse
from negserve.integrations.remote_graph import RemoteGraph
from negserve.types.checks.leakage import warn_of_leakage
from negserve.types.config import Split


class RemoteFilterer(Filterer):  # type: ignore[misc]
    """A filterer for any of PyKEEN's samplers: asks a server which triples are known, exactly.

    Nothing is sent before the first batch. Picklable.

    :param mapped_triples: integer ids of the training triples, shape (n, 3)
    :param target: ``HOST:PORT`` or ``unix:PATH`` of the server, or several of replicas; None for
        the environment variable ``NEGSERVE_TARGET``, and without it for ``127.0.0.1:7733``
    :param dataset: the dataset's name there, which must be this graph; None to find it by the
        fingerprint of ``mapped_triples``, or else to publish it if the server allows that
    :param filter_splits: the splits whose triples count as known
    :param num_entities: size of the entity id space; None for that of the dataset
    :param num_relations: size of the relation id space; None for that of the dataset
    :param timeout: as for :class:`negserve.Client`
    :param patience: as for :class:`negserve.Client`
    :raises InvalidRequestError: for an id or option that is not legal
    :raises LeakageWarning: for ``filter_splits`` with validation or testing, where Python turns
        warnings into errors
    """

    def __init__(
        self,
        mapped_triples: torch.Tensor,
        *,
        target: str | Sequence[str] | None = None,
        dataset: str | None = None,
        filter_splits: Sequence[Split] = ("training",),
        num_entities: int | None = None,
        num_relations: int | None = None,
        timeout: float = 30.0,
        patience: float | None = None,
    ) -> None:
        super().__init__()
        warn_of_leakage(filter_splits)
        self.filter_splits = tuple(filter_splits)
        self.graph = RemoteGraph(
            mapped_triples.cpu(),
            num_entities,
            num_relations,
            target=target,
            dataset=dataset,
            splits=filter_splits,
            timeout=timeout,
            patience=patience,
        )

    @classmethod
    def of_graph(cls, graph: RemoteGraph, filter_splits: Sequence[Split]) -> Self:
        """Make a filterer that shares a sampler's graph."""
        filterer = cls.__new__(cls)
        Filterer.__init__(filterer)
        filterer.filter_splits = tuple(filter_splits)
        filterer.graph = graph
        return filterer

    def extra_repr(self) -> str:
        """Describe the graph, for ``repr``."""
        return f"target={self.graph.targets}, dataset={self.graph.dataset!r}"

    def contains(self, batch: torch.Tensor) -> torch.Tensor:
        r"""Check for each triple whether it is known, exactly.

        :param batch: integer ids, shape (\*batch, 3), any device; triples with ids outside the
            graph are unknown
        :return: bool, shape (\*batch), on the device of the batch
        :raises InvalidRequestError: for another shape
        :raises NegserveError: as :meth:`RemoteGraph.open`, and for any error of the server
        """
        if batch.ndim == 0 or batch.shape[-1] != 3:
            raise InvalidRequestError(
                f"batch has shape {tuple(batch.shape)}; give (*batch, 3)", reason="SHAPE_MISMATCH"
            )
        opened = self.graph.open()
        rows = batch.reshape(-1, 3).cpu()
        if opened.inverted:
            rows = without_inverse(rows)
        factory = opened.factory
        sizes = torch.tensor([factory.num_entities, factory.num_relations, factory.num_entities])
        inside = ((rows >= 0) & (rows < sizes)).all(dim=-1)
        contained = torch.zeros(len(rows), dtype=torch.bool)
        if inside.any():
            known = factory.contains(rows[inside].numpy(), self.filter_splits)
            contained[inside] = torch.from_numpy(known)
        return contained.reshape(batch.shape[:-1]).to(batch.device)
