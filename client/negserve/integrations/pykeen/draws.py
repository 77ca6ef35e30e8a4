"""Negatives of one configuration, from the first batch on."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping
from typing import Any

import torch

from negserve.integrations.pykeen.inverse_triples import with_inverse, without_inverse
from negserve.integrations.remote_graph import OpenGraph, RemoteGraph
from negserve.sampling import NegativeSampler, get_negative_sampler_cls
from negserve.sampling.positions import Positions


class Draws:
    """Draws negatives of a trainer's graph, by a sampler that is opened at the first batch.

    Thread-safe; pickled as not opened.

    :param graph: the graph
    :param positions: what counts positions; shared by draws of one seed
    :param kind: name of the sampler
    :param options: what a :class:`negserve.sampling.NegativeSampler` of that name takes
    :raises InvalidRequestError: if there is no sampler of that name
    """

    def __init__(
        self, graph: RemoteGraph, positions: Positions, kind: str, options: Mapping[str, Any]
    ) -> None:
        self._graph = graph
        self._positions = positions
        self._cls = get_negative_sampler_cls(kind)
        self._options = dict(options)
        self._set_up()

    def _set_up(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._open: tuple[OpenGraph, NegativeSampler] | None = None

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for name in ("_lock", "_process", "_open"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._set_up()

    def sample(
        self, positive_batch: torch.Tensor, position: int | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Do as :meth:`negserve.sampling.NegativeSampler.sample`."""
        graph, sampler = self._opened()
        if position is None:
            position = self._positions.take(positive_batch.shape[:-1].numel())
        if not graph.inverted:
            return sampler.sample(positive_batch, position)
        negatives, mask = sampler.sample(without_inverse(positive_batch), position)
        relations = positive_batch[..., 1].unsqueeze(-1).expand(negatives.shape[:-1])
        return with_inverse(negatives, relations), mask

    def _opened(self) -> tuple[OpenGraph, NegativeSampler]:
        if self._process != os.getpid():
            # A lock that another thread held when the process was forked stays locked here.
            self._lock = threading.Lock()
            self._process = os.getpid()
        with self._lock:
            if self._open is None:
                graph = self._graph.open()
                sampler = self._cls(graph.factory, **self._options)
                weakref.finalize(self, sampler.close)
                self._open = graph, sampler
            return self._open
