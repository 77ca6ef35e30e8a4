"""The negative sampler's API, that of PyKEEN."""

from __future__ import annotations

import threading
from abc import ABC
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from negserve.config import Kind, Slot, Split
from negserve.corrupted_batch import CorruptedBatch
from negserve.errors import InvalidRequestError
from negserve.sampling.expansion import expand
from negserve.sampling.protocol import TriplesFactory

_SUFFIX = "NegativeSampler"


class NegativeSampler(ABC):
    """Draws negatives of positives: one slot replaced, never by the original value.

    Thread-safe. Pickled together with its factory and its position.

    :param triples_factory: the graph, remote or in process
    :param num_negs_per_pos: negatives per positive; None for 1
    :param filtered: whether known triples are excluded, exactly; there are always
        ``num_negs_per_pos`` negatives
    :param filter_splits: the splits whose triples count as known
    :param seed: key of the generator; samplers of one seed draw equal negatives
    :raises ValueError: for an option that is not legal
    """

    #: The default strategy for optimizing the sampler's hyper-parameters.
    hpo_default: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "num_negs_per_pos": {"type": int, "low": 1, "high": 100, "log": True},
    }

    #: The sampler's kind in :class:`negserve.SamplerConfig`.
    kind: ClassVar[Kind]

    def __init__(
        self,
        triples_factory: TriplesFactory,
        num_negs_per_pos: int | None = None,
        filtered: bool = False,
        *,
        filter_splits: Sequence[Split] = ("training",),
        seed: int = 0,
        corruption_scheme: Sequence[Slot] = ("head", "tail"),
    ) -> None:
        self.triples_factory = triples_factory
        self.num_negs_per_pos = 1 if num_negs_per_pos is None else num_negs_per_pos
        self.filtered = filtered
        self.filter_splits = tuple(filter_splits)
        self.seed = seed
        self.corruption_scheme = tuple(corruption_scheme)
        self._sampler = triples_factory.open_sampler(
            kind=self.kind,
            num_negs_per_pos=self.num_negs_per_pos,
            corruption_scheme=self.corruption_scheme,
            filter_splits=self.filter_splits if filtered else (),
            seed=seed,
        )
        self._lock = threading.Lock()
        self._position = 0

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.triples_factory!r}, {self.num_negs_per_pos}, "
            f"filtered={self.filtered}, seed={self.seed})"
        )

    @classmethod
    def get_normalized_name(cls) -> str:
        """Get the normalized name of the sampler, such as ``basic``."""
        return cls.__name__.removesuffix(_SUFFIX).lower()

    @property
    def num_entities(self) -> int:
        """The number of entities to sample from."""
        return self.triples_factory.num_entities

    @property
    def num_relations(self) -> int:
        """The number of relations to sample from."""
        return self.triples_factory.num_relations

    @property
    def position(self) -> int:
        """Position that the next call without an explicit one begins at; may be set."""
        return self._position

    @position.setter
    def position(self, position: int) -> None:
        with self._lock:
            self._position = position

    def _advance(self, count: int) -> int:
        with self._lock:
            position = self._position
            self._position += count
        return position

    def sample(
        self, positive_batch: torch.Tensor, position: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        r"""Generate negative samples from the positive batch.

        :param positive_batch: integer ids, shape (\*batch, 3), any device; they need not be
            triples of the graph
        :param position: position of the first positive; None continues where the last such
            call ended, so that two calls differ
        :return: the negatives, int64, shape (\*batch, k, 3), and, if the sampler filters, a
            mask, bool, shape (\*batch, k): True where valid. False only where every candidate
            of the positive is known. Both on the device of the batch.
        :raises ValueError: for another shape, or ids outside the graph
        """
        batch, flat = self._corrupt(positive_batch, position)
        shape = positive_batch.shape[:-1]
        negatives = expand(batch, flat).reshape(*shape, self.num_negs_per_pos, 3)
        if batch.mask is None:
            return negatives, None
        mask = torch.from_numpy(batch.mask.copy()).to(positive_batch.device)
        return negatives, mask.reshape(*shape, self.num_negs_per_pos)

    def sample_compact(
        self, positive_batch: torch.Tensor, position: int | None = None
    ) -> CorruptedBatch:
        r"""Generate negatives without whole triples, as :meth:`sample` draws them.

        :param positive_batch: integer ids, shape (\*batch, 3), taken as n rows
        :param position: as in :meth:`sample`
        """
        return self._corrupt(positive_batch, position)[0]

    def _corrupt(
        self, positive_batch: torch.Tensor, position: int | None
    ) -> tuple[CorruptedBatch, torch.Tensor]:
        if positive_batch.ndim == 0 or positive_batch.shape[-1] != 3:
            raise InvalidRequestError(
                f"positive_batch has shape {tuple(positive_batch.shape)}; give (*batch, 3)",
                reason="SHAPE_MISMATCH",
            )
        if positive_batch.is_floating_point():
            raise InvalidRequestError(
                f"positive_batch has dtype {positive_batch.dtype}; give integer ids",
                reason="SHAPE_MISMATCH",
            )
        flat = positive_batch.reshape(-1, 3).to(torch.int64)
        if position is None:
            position = self._advance(len(flat))
        drawn = self._sampler.sample(flat.cpu().numpy(), position)
        return (
            CorruptedBatch(
                position=drawn.position,
                replaced=drawn.replaced,
                head_counts=drawn.head_counts,
                relation_counts=drawn.relation_counts,
                mask=drawn.mask,
                num_saturated=drawn.num_saturated,
            ),
            flat,
        )

    def filter_negative_triples(
        self, negative_batch: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        r"""Filter all proposed negatives that are known, exactly.

        Only needed for negatives from elsewhere: with ``filtered=True``, :meth:`sample`
        returns none that is known.

        :param negative_batch: integer ids, shape (\*batch, 3)
        :return: the triples that are not known, shape (m, 3), and a mask, bool, shape
            (\*batch): True where the triple is kept
        :raises ValueError: for another shape, or ids outside the graph
        """
        if negative_batch.ndim == 0 or negative_batch.shape[-1] != 3:
            raise InvalidRequestError(
                f"negative_batch has shape {tuple(negative_batch.shape)}; give (*batch, 3)",
                reason="SHAPE_MISMATCH",
            )
        rows = negative_batch.reshape(-1, 3).cpu().numpy()
        known = self.triples_factory.contains(rows, self.filter_splits)
        mask = torch.from_numpy(~known).to(negative_batch.device)
        mask = mask.reshape(negative_batch.shape[:-1])
        return negative_batch[mask], mask

    def close(self) -> None:
        """Give back what is held on the server."""
        self._sampler.close()
