"""A process that uses gRPC for one that can't: for a fork of a process that has used it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.corrupted_batch import CorruptedBatch
from negserve.errors import UnavailableError

if TYPE_CHECKING:
    from negserve.integrations.remote_graph import RemoteGraph
    from negserve.remote_sampler import RemoteSampler

_STOP_SECONDS = 10


class HelperTriplesFactory:
    """A graph that a helper process has opened, as :class:`negserve.RemoteTriplesFactory`.

    Thread-safe. The helper ends when this is closed, and when this process ends.

    :param graph: the graph
    :ivar name: the dataset's name on the server
    :ivar num_entities: size of the entity id space
    :ivar num_relations: size of the relation id space
    :ivar inverted: as in :class:`negserve.integrations.remote_graph.OpenGraph`
    :raises NegserveError: as :meth:`negserve.integrations.remote_graph.RemoteGraph.open`
    """

    def __init__(self, graph: RemoteGraph) -> None:
        self._lock = threading.Lock()
        self._pipe, theirs = Pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "negserve.integrations.helper_process", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
        )
        theirs.close()
        try:
            self.name, self.num_entities, self.num_relations, self.inverted = self.ask(graph)
        except BaseException:
            self.close()
            raise

    def ask(self, request: object) -> Any:
        """Send a request and give the answer, or raise it if it is an error."""
        with self._lock:
            try:
                self._pipe.send(request)
                answer = self._pipe.recv()
            except (EOFError, OSError) as error:
                raise UnavailableError(
                    "the helper process that was to ask the server has ended; its last words are "
                    "on the standard error"
                ) from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def open_sampler(self, **options: Any) -> HelperSampler:
        """Do as :meth:`negserve.RemoteTriplesFactory.open_sampler`."""
        return HelperSampler(self, self.ask(("open_sampler", options)))

    def contains(self, triples: ArrayLike, splits: Sequence[str]) -> NDArray[np.bool_]:
        """Do as :meth:`negserve.RemoteTriplesFactory.contains`."""
        known: NDArray[np.bool_] = self.ask(("contains", np.asarray(triples), tuple(splits)))
        return known

    def close(self) -> None:
        """End the helper process."""
        self._pipe.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class HelperSampler:
    """A sampler of a helper process, as :class:`negserve.RemoteSampler`."""

    def __init__(self, factory: HelperTriplesFactory, number: int) -> None:
        self._factory = factory
        self._number = number

    def sample(self, positives: ArrayLike, position: int) -> CorruptedBatch:
        """Do as :meth:`negserve.RemoteSampler.sample`."""
        batch: CorruptedBatch = self._factory.ask(
            ("sample", self._number, np.asarray(positives), position)
        )
        return batch

    def close(self) -> None:
        """Leave it to the end of the process."""


def serve(pipe: Connection) -> None:
    """Answer requests, of which the first one is a graph, until the other side is gone."""
    samplers: list[RemoteSampler] = []
    graph: Any = None

    def answer(request: Any) -> object:
        nonlocal graph
        if graph is None:
            graph = request
            factory = graph.open().factory
            return factory.name, factory.num_entities, factory.num_relations, graph.open().inverted
        factory = graph.open().factory
        method, *arguments = request
        if method == "open_sampler":
            samplers.append(factory.open_sampler(**arguments[0]))
            return len(samplers) - 1
        if method == "contains":
            return factory.contains(*arguments)
        number, positives, position = arguments
        return samplers[number].sample(positives, position)

    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        try:
            answered = answer(request)
        except Exception as error:
            answered = error
        try:
            pipe.send(answered)
        except BrokenPipeError:
            return


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
    os._exit(0)  # there is nothing to wait for, streams of gRPC included
