"""Negatives of one sampler configuration, which opens its sampler at the first batch."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from typing import Any

import torch

from negserve._calls.per_process import PerProcess
from negserve.integrations.pykeen.drawn_positions import DrawnPositions
from negserve.integrations.pykeen.inverse_triples import with_inverse, without_inverse
from negserve.integrations.remote_graph import OpenGraph, RemoteGraph
from negserve.sampling import NegativeSampler, get_negative_sampler_cls
from negserve.types.checks.leakage import leakage_told
from negserve.types.config import Slot

COLUMNS: Mapping[Slot, int] = {"head": 0, "relation": 1, "tail": 2}
_OPPOSITE: Mapping[Slot, Slot] = {"head": "tail", "tail": "head"}


class Draws:
    """Draws negatives of a trainer's graph, with a sampler that is opened at the first batch.

    Thread-safe; a pickled copy is not opened.

    :param graph: the graph
    :param positions: source of positions
    :param kind: name of the sampler
    :ivar options: options of the :class:`negserve.sampling.NegativeSampler` of that name
    :raises InvalidRequestError: if there is no sampler of that name
    """

    def __init__(
        self, graph: RemoteGraph, positions: DrawnPositions, kind: str, options: Mapping[str, Any]
    ) -> None:
        self._graph = graph
        self._positions = positions
        self._cls = get_negative_sampler_cls(kind)
        self._kind = kind
        self.options = dict(options)
        self._set_up()

    def with_options(self, **options: Any) -> Draws:
        """Return a copy with some options changed."""
        return Draws(self._graph, self._positions, self._kind, {**self.options, **options})

    def _set_up(self) -> None:
        # A lock that another thread holds during a fork would stay locked in the child.
        self._lock = PerProcess(threading.Lock)
        self._open: tuple[OpenGraph, NegativeSampler] | None = None
        self._slots: dict[tuple[Slot, int], Draws] = {}

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for name in ("_lock", "_open", "_slots"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._set_up()

    def sample(
        self, positive_batch: torch.Tensor, position: int | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Sample as :meth:`negserve.sampling.NegativeSampler.sample` does."""
        graph, sampler = self._opened()
        if position is None:
            position = self._positions.take(positive_batch.shape[:-1].numel())
        if not graph.inverted:
            return sampler.sample(positive_batch, position)
        negatives, mask = sampler.sample(without_inverse(positive_batch), position)
        relations = positive_batch[..., 1].unsqueeze(-1).expand(negatives.shape[:-1])
        return with_inverse(negatives, relations), mask

    def sample_slot(
        self, positive_batch: torch.Tensor, slot: Slot, num_negs: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        r"""Draw new values for one slot.

        :param positive_batch: integer ids, shape (\*batch, 3)
        :return: int64, shape (\*batch, num_negs), and the mask of that shape, or None
        """
        values, mask = self._sample_slot(positive_batch, slot, slot, num_negs)
        if self._graph.open().inverted:
            # The head of an inverse triple (t, 2 r + 1, h) is the tail in the dataset.
            inverse = (positive_batch[..., 1:2] % 2 == 1).expand(values.shape)
            others, valid = self._sample_slot(positive_batch, _OPPOSITE[slot], slot, num_negs)
            values = torch.where(inverse, others, values)
            if mask is not None and valid is not None:
                mask = torch.where(inverse, valid, mask)
        return values, mask

    def _sample_slot(
        self, positive_batch: torch.Tensor, drawn: Slot, slot: Slot, num_negs: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        draws = self._slots.get((drawn, num_negs))
        if draws is None:
            draws = self.with_options(corruption_scheme=(drawn,), num_negs_per_pos=num_negs)
            self._slots[drawn, num_negs] = draws
        negatives, mask = draws.sample(positive_batch, None)
        return negatives[..., COLUMNS[slot]], mask

    def _opened(self) -> tuple[OpenGraph, NegativeSampler]:
        with self._lock.value:
            if self._open is None:
                graph = self._graph.open()
                with leakage_told():  # the warning was given when these draws were made
                    sampler = self._cls(graph.factory, **self.options)
                weakref.finalize(self, sampler.close)
                self._open = graph, sampler
            return self._open
