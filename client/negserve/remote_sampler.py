"""A sampler that a server computes, over one stream."""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve import wire
from negserve.backoff import tries
from negserve.config import SamplerConfig
from negserve.corrupted_batch import CorruptedBatch
from negserve.dataset import Dataset
from negserve.errors import InvalidRequestError, ServiceError, StalledError, UnavailableError
from negserve.v1 import sampler_pb2 as pb

#: Requests sent ahead of their answers: enough to hide a round trip.
_AHEAD = 4


class _Stream:
    """One open ``Sample`` call."""

    def __init__(self, dataset: Dataset, config: SamplerConfig) -> None:
        self._connection = dataset.connection
        self._requests: queue.SimpleQueue[pb.SampleRequest | None] = queue.SimpleQueue()
        self._call = self._connection.stub().Sample(iter(self._requests.get, None))
        # Whatever ends the call, the thread of grpc that waits for requests ends with it.
        if not self._call.add_callback(lambda: self._requests.put(None)):
            self._requests.put(None)
        self.send(
            pb.SampleRequest(
                configuration=pb.SampleConfiguration(
                    dataset=dataset.name,
                    expected_fingerprint=dataset.fingerprint,
                    sampler=wire.encode_config(config),
                )
            )
        )
        try:
            self.receive()
        except BaseException:
            self.close()  # else a thread of grpc waits for requests for ever
            raise

    def send(self, request: pb.SampleRequest) -> None:
        self._requests.put(request)

    def receive(self) -> pb.SampleResponse:
        response: pb.SampleResponse | None = self._connection.next_message(self._call)
        if response is None:
            raise UnavailableError(f"{self._connection.target}: the stream was ended")
        return response

    def close(self) -> None:
        self._requests.put(None)
        self._call.cancel()


class RemoteSampler:
    """Draws negatives on a server. Thread-safe; pickled as its configuration.

    A stream that breaks (UNAVAILABLE) or stalls is opened again, on the next replica if there
    are several, as long as the connection's patience lasts, and what was not answered is sent
    again: the same positions give the same negatives.

    :param dataset: the dataset
    :param config: what to draw
    :raises NegserveError: typed by what the server said of the configuration
    """

    def __init__(self, dataset: Dataset, config: SamplerConfig) -> None:
        self._dataset = dataset
        self.config = config
        self._set_up()
        with self._lock:
            self._with_stream(deque(), [])

    def _set_up(self) -> None:
        self._lock = threading.Lock()
        self._stream: _Stream | None = None
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"dataset": self._dataset, "config": self.config}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._dataset, self.config = state["dataset"], state["config"]
        self._set_up()

    def sample(self, positives: ArrayLike, position: int) -> CorruptedBatch:
        """Corrupt positives.

        :param positives: integer ids, shape (n, 3), any n: a large batch travels in several
            messages
        :param position: position of the first positive in the stream of the seed; the i-th
            has ``position + i``
        :raises NegserveError: typed by what the server said
        """
        if self._process != os.getpid():
            self._set_up()
        triples = wire.as_triples(positives)
        if not 0 <= position <= 2**64 - max(len(triples), 1):
            raise InvalidRequestError(
                f"{len(triples)} positives from position {position} on leave the range 0 to "
                f"{2**64 - 1}; start at a smaller position",
                reason="POSITION_OUT_OF_RANGE",
            )
        unanswered = deque(self._requests(triples, position))
        batches: list[CorruptedBatch] = []
        with self._lock:
            self._with_stream(unanswered, batches)
        return wire.concatenate(batches)

    def close(self) -> None:
        """End the stream; a later :meth:`sample` opens another."""
        with self._lock:
            self._drop_stream()

    def _requests(self, triples: NDArray[np.int64], position: int) -> Iterator[pb.SampleRequest]:
        step = self._dataset.limits.positives_per_message(
            self.config.num_negs_per_pos, self.config.log_q
        )
        for begin in range(0, max(len(triples), 1), step):
            part = triples[begin : begin + step]
            yield pb.SampleRequest(
                positives=pb.Positives(
                    position=position + begin,
                    triples=wire.encode_triples(
                        part, self._dataset.num_entities, self._dataset.num_relations
                    ),
                )
            )

    def _with_stream(
        self, unanswered: deque[pb.SampleRequest], batches: list[CorruptedBatch]
    ) -> None:
        """Move requests from one list to answers in the other, over as many streams as it takes."""
        connection = self._dataset.connection
        last_error: ServiceError | None = None
        while True:
            num_answered = len(batches)
            for _ in tries(connection.patience):
                target = connection.target
                try:
                    if self._stream is None:
                        self._stream = _Stream(self._dataset, self.config)
                    self._exchange(self._stream, unanswered, batches)
                except (UnavailableError, StalledError) as error:
                    last_error = error
                    self._drop_stream()
                    connection.fail_over(target)
                except BaseException:
                    self._drop_stream()
                    raise
                else:
                    return
                if len(batches) > num_answered:
                    break  # there was progress: patience begins anew
            else:
                assert last_error is not None
                raise last_error

    def _exchange(
        self,
        stream: _Stream,
        unanswered: deque[pb.SampleRequest],
        batches: list[CorruptedBatch],
    ) -> None:
        num_sent = 0
        while unanswered:
            while num_sent < min(_AHEAD, len(unanswered)):
                stream.send(unanswered[num_sent])
                num_sent += 1
            batches.append(wire.decode_batch(stream.receive().batch, self.config))
            unanswered.popleft()
            num_sent -= 1

    def _drop_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
