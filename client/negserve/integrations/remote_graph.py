"""A trainer's graph, found on a server or published there."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from negserve._calls.client import DEFAULT_TARGET
from negserve._calls.per_process import PerProcess
from negserve._calls.publish import Restoration
from negserve._graph.mapped_graph import MappedGraph
from negserve._sync.client import Client
from negserve._sync.triples_factory import RemoteTriplesFactory
from negserve.errors import (
    FingerprintMismatchError,
    InvalidRequestError,
    NotAllowedError,
    UnknownDatasetError,
)


@dataclass(frozen=True, slots=True)
class OpenGraph:
    """A dataset of a server that matches a trainer's graph.

    :ivar factory: the dataset
    :ivar inverted: whether the trainer's relation ids include PyKEEN's inverse triples: 2 r for
        relation r of the dataset, 2 r + 1 for its inverse
    """

    factory: RemoteTriplesFactory
    inverted: bool


class RemoteGraph:
    """The graph of some mapped triples, on a server that has it or accepts it.

    Nothing is sent before the first :meth:`open`. Thread-safe; a pickled copy is not opened.

    :param mapped_triples: integer ids of the training triples, shape (n, 3)
    :param num_entities: size of the entity id space; None for that of the dataset
    :param num_relations: size of the relation id space; None for that of the dataset
    :param target: ``HOST:PORT`` or ``unix:PATH``, or several of replicas; None for the
        environment variable ``NEGSERVE_TARGET``, and without it for ``127.0.0.1:7733``
    :param dataset: name on the server; None to find it by its fingerprint, or else to publish it
    :param splits: required splits, if the server has this graph both with and without them
    :param with_relations: whether relations are replaced, which requires the inverse relations
    :param timeout: as for :class:`negserve.Client`
    :param patience: as for :class:`negserve.Client`
    :raises InvalidRequestError: if there are no triples, or ids outside the id space
    """

    def __init__(
        self,
        mapped_triples: ArrayLike,
        num_entities: int | None = None,
        num_relations: int | None = None,
        *,
        target: str | Sequence[str] | None,
        dataset: str | None,
        splits: Sequence[str],
        with_relations: bool = False,
        timeout: float,
        patience: float | None,
    ) -> None:
        if target is None:
            target = os.environ.get("NEGSERVE_TARGET", DEFAULT_TARGET)
        self.dataset = dataset
        # Illegal options are refused here, before anything is sent.
        self._client = Client(target, timeout=timeout, patience=patience)
        self.targets = self._client.targets
        self._splits = tuple(splits)
        self._sizes_known = num_entities is not None and num_relations is not None
        self._graph = MappedGraph.of(
            mapped_triples, num_entities=num_entities, num_relations=num_relations
        )
        self._without_inverses = None if with_relations else without_inverses(self._graph)
        self._set_up()

    def _set_up(self) -> None:
        # A lock that another thread holds during a fork would stay locked in the child.
        self._lock = PerProcess(threading.Lock)
        self._open: OpenGraph | None = None
        weakref.finalize(self, self._client.close)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for name in ("_lock", "_open"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._set_up()

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for equal graphs."""
        return self.targets, self.dataset, self._graph.split_fingerprints["training"]

    def open(self) -> OpenGraph:
        """Return the dataset, which the first call finds or publishes.

        :raises FingerprintMismatchError: if the dataset of that name is another graph
        :raises UnknownDatasetError: if there is no dataset of that name; without a name, if the
            server neither has the graph nor accepts it
        :raises InvalidRequestError: if the dataset lacks one of the splits
        :raises NegserveError: for any other error of the server
        """
        with self._lock.value:
            if self._open is None:
                found = self._find() if self.dataset is None else self._named(self.dataset)
                self._check_splits(found.factory)
                self._open = found
            return self._open

    def _check_splits(self, factory: RemoteTriplesFactory) -> None:
        """Refuse a filter over splits that the server does not have.

        :raises InvalidRequestError: saying how to bring them to the server
        """
        lacking = [split for split in self._splits if split not in factory.split_fingerprints]
        if lacking:
            raise InvalidRequestError(
                f"filter_splits={self._splits}; dataset {factory.name!r} at {self._client.target} "
                f"has no {' and no '.join(lacking)} split. Publish the graph with all of them: "
                f"negserve.Client(target).publish(name, {{'training': ..., '{lacking[0]}': ...}}), "
                f"and give dataset=name",
                reason="INVALID_CONFIGURATION",
                metadata={
                    "field": "filter_splits",
                    "value": ", ".join(self._splits),
                    "limit": ", ".join(factory.split_fingerprints),
                },
            )

    def _named(self, dataset: str) -> OpenGraph:
        factory = self._client.triples_factory(dataset)
        for found in self._matches(factory):
            return found
        expected = factory.split_fingerprints["training"]
        value = self._graph.split_fingerprints["training"]
        raise FingerprintMismatchError(
            f"{self._client.target}: dataset {factory.name!r} is another graph: its training split "
            f"has {factory.num_triples} triples, {factory.num_entities} entities and "
            f"{factory.num_relations} relations, fingerprint {expected}; mapped_triples have "
            f"{self._size()}, fingerprint {value}; name another dataset, or none",
            reason="FINGERPRINT_MISMATCH",
            metadata={"dataset": factory.name, "value": value, "limit": expected},
        )

    def _find(self) -> OpenGraph:
        without_splits: OpenGraph | None = None
        for name in self._client.list_datasets():
            try:
                factory = self._client.triples_factory(name)
            except UnknownDatasetError:
                continue  # removed since it was listed
            for found in self._matches(factory):
                if set(self._splits) <= set(factory.split_fingerprints):
                    return found
                without_splits = without_splits or found
        if without_splits is not None:
            return without_splits  # open() says which splits it lacks
        graph = self._without_inverses or self._graph
        fingerprint = graph.split_fingerprints["training"]
        try:
            # PyKEEN fixes the order of the columns, so they can't be swapped.
            factory = self._client.publish(
                f"mapped-triples-{fingerprint[:16]}", replace(graph, doubt=None)
            )
        except NotAllowedError as error:
            raise UnknownDatasetError(
                f"{self._client.target}: no dataset has these training triples ({self._size()}, "
                f"fingerprint {fingerprint}), and the server accepts none; serve the files that "
                f"the ids were made from, or run the server with --allow-publish",
                reason="UNKNOWN_DATASET",
                metadata={"value": fingerprint},
            ) from error
        return OpenGraph(factory, graph is self._without_inverses)

    def _matches(self, factory: RemoteTriplesFactory) -> Iterator[OpenGraph]:
        for graph, inverted in ((self._graph, False), (self._without_inverses, True)):
            if graph is None or factory.num_triples != len(graph.splits["training"]):
                continue
            fits = graph.num_entities <= factory.num_entities and (
                graph.num_relations <= factory.num_relations
            )
            if fits and not self._sizes_known:
                graph = MappedGraph.of(  # noqa: PLW2901
                    graph.splits,
                    num_entities=factory.num_entities,
                    num_relations=factory.num_relations,
                )
            if factory.split_fingerprints["training"] == graph.split_fingerprints["training"]:
                if factory.fingerprint == graph.fingerprint:
                    # No matter who published it: this client can restore it on a replica.
                    factory.keep_restorable(Restoration(factory.name, graph.fingerprint, graph, {}))
                yield OpenGraph(factory, inverted)

    def _size(self) -> str:
        graph = self._graph
        return (
            f"{len(graph.splits['training'])} triples, {graph.num_entities} entities and "
            f"{graph.num_relations} relations"
        )


def without_inverses(graph: MappedGraph) -> MappedGraph | None:
    """Undo PyKEEN's ``create_inverse_triples``; None for a graph without inverse triples."""
    triples = graph.splits["training"]
    inverse = triples[:, 1] % 2 == 1
    if graph.num_relations % 2 or 2 * np.count_nonzero(inverse) != len(triples):
        return None
    halves = [
        MappedGraph.of(
            half // [1, 2, 1],
            num_entities=graph.num_entities,
            num_relations=graph.num_relations // 2,
        )
        for half in (triples[~inverse], triples[inverse][:, ::-1])
    ]
    return halves[0] if halves[0].fingerprint == halves[1].fingerprint else None
