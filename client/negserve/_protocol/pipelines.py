"""Requests of a stream, sent ahead of their answers: positives to corrupt, triples to look up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from google.protobuf.message import Message
from numpy.typing import ArrayLike, NDArray

from negserve._protocol import messages
from negserve._protocol.messages import check_equal, check_flags, check_member
from negserve._protocol.sampler_answers import BatchReader, Columns, Notice, read_notices
from negserve.errors import InvalidRequestError
from negserve.types.config import SamplerConfig
from negserve.types.corrupted_batch import CorruptedBatch, divide_batch, join_batches
from negserve.types.dataset import Dataset, Limits
from negserve.types.triples import as_triples
from negserve.v1 import sampler_pb2 as pb

#: Requests sent ahead of their answers: enough to hide a round trip.
_AHEAD = 4
#: Most negatives of calls that share a request. A larger one has little left to save, and while
#: the first negatives wait for the last ones nobody works on them.
_MOST_SHARED = 2**18
#: A larger call is divided into messages of so many negatives, at least: while one is rebuilt here,
#: the next one is drawn. With smaller ones it takes longer.
_PART = 2**17

Request = TypeVar("Request", bound=Message)
Asked = TypeVar("Asked")
Response = TypeVar("Response")


class RequestPipeline(ABC, Generic[Request, Asked, Response]):
    """Requests and their answers, in order, over as many streams as it takes. Does no I/O.

    Send what :meth:`resume` returns; pass each message to :meth:`take` and send what that returns,
    until the pipeline :attr:`is_answered`. On another stream, :meth:`resume` again.

    :ivar unanswered: requests that are sent, each with what its answer is compared with
    :ivar is_answered: whether all that is waited for has arrived
    :ivar has_advanced: whether the last message told more than any stream before
    :ivar num_answered: rows of the requests that are answered
    :param requests: all of them, likewise
    :param limits: how many, and how many bytes, may be unanswered
    :param ahead: how many should be sent ahead at most, if the limits allow it
    """

    def __init__(
        self, requests: Iterable[tuple[Request, Asked]], limits: Limits, ahead: int = _AHEAD
    ) -> None:
        self._coming = deque([iter(requests)])
        self._next: tuple[Request, Asked] | None = None
        self._stream: object = None
        self._added: list[Request] = []
        self._most_messages = min(ahead, limits.max_unanswered_messages)
        self._most_bytes = limits.max_unanswered_bytes
        self._num_bytes = 0
        self.has_advanced = True
        self.num_answered = 0
        self.unanswered: deque[tuple[Request, Asked]] = deque()
        self._advance()
        self.is_answered = self._has_enough()

    def start(self) -> list[Request]:
        """Return the requests to send first on a stream."""
        return [request for request, _ in self.unanswered]

    def resume(self, stream: object) -> list[Request]:
        """Return the requests to send before the next answer: those that the stream has not had.

        :param stream: identifies the stream
        """
        added, self._added = self._added, []
        if self._stream is stream:
            return added
        self._stream = stream
        return self.start()

    def _append(self, requests: Iterable[tuple[Request, Asked]]) -> None:
        """Add requests behind all others."""
        self._coming.append(iter(requests))
        self._added += self._advance()
        self.is_answered = self._has_enough()

    def take(self, response: Response) -> list[Request]:
        """Take an answer to the first unanswered request; return the requests to send next.

        :raises InvalidAnswerError: if it does not answer that request
        """
        request, asked = self.unanswered[0]
        if not self._keep(asked, response):
            return []
        self.num_answered += self._num_rows(asked)
        self.unanswered.popleft()
        self._num_bytes -= request.ByteSize()
        added = self._advance()
        self.is_answered = self._has_enough()
        return added

    def _ask_again(self, requests: Iterable[tuple[Request, Asked]]) -> None:
        """Ask for something else in place of the first unanswered request, on another stream."""
        others = [*self.unanswered][1:] + ([] if self._next is None else [self._next])
        self._coming.appendleft(iter([*requests, *others]))
        self.unanswered.clear()
        self._num_bytes, self._next, self._stream = 0, None, None
        self._advance()

    def _has_enough(self) -> bool:
        return not self.unanswered

    def in_call(self, error: InvalidRequestError) -> InvalidRequestError:
        """Count the row that an error of the server names from the beginning of the call.

        The server counts from the beginning of the message, the first unanswered one.
        """
        row, rows_before = error.metadata.get("row", ""), self._rows_before()
        if not row.isdecimal() or not rows_before:
            return error
        moved = str(int(row) + rows_before)
        return type(error)(
            str(error).replace(f"of row {row} ", f"of row {moved} "),
            reason=error.reason,
            metadata={**error.metadata, "row": moved},
            target=error.target,
        )

    def _advance(self) -> list[Request]:
        added = []
        while self._pull() and self._next is not None:
            request, _ = self._next
            num_bytes = self._num_bytes + request.ByteSize()
            if self.unanswered and (
                len(self.unanswered) >= self._most_messages or num_bytes > self._most_bytes
            ):
                break
            self.unanswered.append(self._next)
            added.append(request)
            self._num_bytes = num_bytes
            self._next = None
        return added

    def _pull(self) -> bool:
        """Encode the next request, if there is another one."""
        while self._next is None and self._coming:
            self._next = next(self._coming[0], None)
            if self._next is None:
                self._coming.popleft()
        return self._next is not None

    def _rows_before(self) -> int:
        """Count the rows of the call before the first unanswered request."""
        return self.num_answered

    @abstractmethod
    def _keep(self, asked: Asked, response: Response) -> bool:
        """Keep an answer to the first unanswered request, and return whether it is the last."""

    @abstractmethod
    def _num_rows(self, asked: Asked) -> int:
        """Count the rows of a request."""


class _Positives(NamedTuple):
    """The positives of a request.

    :ivar row: of the first one among those of the call
    :ivar calls: numbers of positives of the calls that share the request; otherwise of this part
    """

    position: int
    row: int
    columns: Columns
    calls: tuple[int, ...]


class SamplePipeline(RequestPipeline[pb.SampleRequest, _Positives, pb.SampleResponse]):
    """Calls of a sampler, in messages within the server's limits.

    A request costs both sides about as much as a thousand positives with 64 negatives. So calls at
    consecutive positions share requests, as many as leave others to be answered meanwhile.

    :ivar notices: the server's notices so far
    :param reader: decodes the batches
    :param positives_per_message: most positives of one request
    :param ahead: how many calls there are at most at the same time
    :param calls: of the beginning, each as :meth:`add` takes it
    """

    def __init__(
        self,
        dataset: Dataset,
        reader: BatchReader,
        positives_per_message: int,
        ahead: int = 1,
        calls: Iterable[tuple[ArrayLike, int]] = (),
    ) -> None:
        self._dataset = dataset
        self._reader = reader
        self._most_per_message = positives_per_message
        self._ahead = ahead
        self._most_calls = max(1, ahead // 2) if reader.can_divide else 1
        self._most_positives = min(positives_per_message, _MOST_SHARED // reader.k)
        #: Calls without a request, each as its positives and their position.
        self._added_calls: list[tuple[NDArray[np.int64], int]] = []
        #: Numbers of batches of the calls that were not taken, and have requests.
        self._lengths: deque[int] = deque()
        self._batches: deque[CorruptedBatch] = deque()
        self.notices: list[Notice] = []
        super().__init__((), dataset.limits, max(_AHEAD, ahead))
        for positives, position in calls:
            self.add(positives, position)

    def add(self, positives: ArrayLike, position: int) -> None:
        """Add a call.

        :param positives: integer ids, shape (n, 3), any n
        :param position: position of the first positive in the stream of the seed
        :raises InvalidRequestError: for another shape, or positions beyond 2^64 - 1
        """
        triples = as_triples(positives)
        if not 0 <= position <= 2**64 - max(len(triples), 1):
            raise InvalidRequestError(
                f"{len(triples)} positives from position {position} on leave the range 0 to "
                f"{2**64 - 1}; start at a smaller position",
                reason="POSITION_OUT_OF_RANGE",
            )
        self._added_calls.append((triples, position))

    def add_parts(self, positives: ArrayLike, position: int) -> None:
        """Add a batch, each of whose messages is a call; errors count rows of the whole batch.

        Parameters and errors as of :meth:`add`.
        """
        self.add(positives, position)
        triples, _ = self._added_calls.pop()
        ends = self._ends_of_parts(len(triples))
        self._lengths.extend([1] * len(ends))
        self._append(self._requests(triples, position, ends))

    @property
    def num_calls(self) -> int:
        """How many calls were not taken."""
        return len(self._lengths) + len(self._added_calls)

    @property
    def has_room(self) -> bool:
        """Whether to add calls, as many as may be under way, so that they share requests."""
        return self.num_calls + self._most_calls <= self._ahead

    def resume(self, stream: object) -> list[pb.SampleRequest]:
        """Return the requests to send before the next answer, of calls added since, too."""
        calls, self._added_calls = self._added_calls, []
        shared: list[NDArray[np.int64]] = []
        begin = end = 0
        for triples, position in calls:
            n = len(triples)
            is_next = position == end and end - begin + n <= self._most_positives
            if shared and not (is_next and len(shared) < self._most_calls):
                self._ask(shared, begin)
                shared = []
            if not shared:
                begin = end = position
            shared.append(triples)
            end += n
        if shared:
            self._ask(shared, begin)
        return super().resume(stream)

    def _ask(self, calls: Sequence[NDArray[np.int64]], position: int) -> None:
        """Make the requests of a call, or the one of several calls."""
        if len(calls) > 1:
            self._lengths.extend([1] * len(calls))
            self._append(
                [self._request(np.concatenate(calls), position, 0, tuple(map(len, calls)))]
            )
            return
        triples = calls[0]
        ends = self._ends_of_parts(len(triples))
        self._lengths.append(len(ends))
        self._append(self._requests(triples, position, ends))

    def _ends_of_parts(self, n: int) -> list[int]:
        """Divide n positives among messages, about equally; return the index after each part."""
        count = max(-(-n // self._most_per_message), min(n, n * self._reader.k // _PART), 1)
        return [n * number // count for number in range(1, count + 1)]

    def divide(self) -> bool:
        """Make the first unanswered request one for each of its calls; False if it has only one.

        So the calls before a refused one are answered.
        """
        if not self.unanswered or len((asked := self.unanswered[0][1]).calls) == 1:
            return False
        triples = np.stack(asked.columns, axis=1).astype(np.int64, copy=False)
        ends = list(accumulate(asked.calls))
        self._ask_again(
            self._request(triples[end - n : end], asked.position + end - n, 0, (n,))
            for end, n in zip(ends, asked.calls, strict=True)
        )
        return True

    def _has_enough(self) -> bool:
        """Tell whether the first call is answered."""
        return bool(self._lengths) and len(self._batches) >= self._lengths[0]

    def pop(self) -> CorruptedBatch:
        """Take the answer to the first call."""
        length = self._lengths.popleft()
        batches = [self._batches.popleft() for _ in range(length)]
        self.is_answered = self._has_enough()
        return batches[0] if length == 1 else join_batches(batches)

    def _requests(
        self, triples: NDArray[np.int64], position: int, ends: Sequence[int]
    ) -> Iterator[tuple[pb.SampleRequest, _Positives]]:
        for begin, end in pairwise([0, *ends]):
            part = triples[begin:end]
            yield self._request(part, position + begin, begin, (len(part),))

    def _request(
        self, triples: NDArray[np.int64], position: int, row: int, calls: tuple[int, ...]
    ) -> tuple[pb.SampleRequest, _Positives]:
        dataset = self._dataset
        encoded = messages.encode_triples(triples, dataset.num_entities, dataset.num_relations)
        request = pb.SampleRequest(positives=pb.Positives(position=position, triples=encoded))
        return request, _Positives(position, row, Columns(*triples.T), calls)

    def _num_rows(self, asked: _Positives) -> int:
        return len(asked.columns.heads)

    def _rows_before(self) -> int:
        return self.unanswered[0][1].row

    def _keep(self, asked: _Positives, response: pb.SampleResponse) -> bool:
        if not response.HasField("batch"):
            check_member("message", response, "batch")
        expected = [(asked.position, self._num_rows(asked))]
        read = self._reader.read("batch", [response.batch], expected, asked.columns)
        self._batches += divide_batch(read[0], asked.calls) if len(asked.calls) > 1 else read
        if response.notices:
            self.notices += read_notices(response)
        return True


class ContainsPipeline(RequestPipeline[pb.ContainsRequest, int, pb.ContainsResponse]):
    """One lookup of triples, in messages within the server's limits.

    :ivar configuration: the first message of each stream
    :ivar result: bool, shape (n,), once everything is answered
    :param triples: integer ids, shape (n, 3), any n
    :param splits: names of splits, at least one
    :raises InvalidRequestError: for another shape, or an unknown split
    """

    def __init__(self, dataset: Dataset, triples: ArrayLike, splits: Sequence[str]) -> None:
        array = as_triples(triples)
        self.configuration = pb.ContainsRequest(
            configuration=pb.ContainsConfiguration(
                dataset=dataset.name,
                expected_fingerprint=dataset.fingerprint,
                splits=messages.encode_splits(splits),
            )
        )
        self.result: NDArray[np.bool_] = np.empty(len(array), dtype=np.bool_)
        self._num_known = 0
        super().__init__(_lookups(dataset, array), dataset.limits)

    def _num_rows(self, asked: int) -> int:
        return asked

    def _keep(self, asked: int, response: pb.ContainsResponse) -> bool:
        check_equal("num_triples", response.num_triples, asked)
        check_flags("known", response.known, asked)
        known = messages.decode_flags(response.known, asked)
        self.result[self._num_known : self._num_known + asked] = known
        self._num_known += asked
        return True


def _lookups(
    dataset: Dataset, triples: NDArray[np.int64]
) -> Iterator[tuple[pb.ContainsRequest, int]]:
    step = dataset.limits.max_triples_per_message
    # No triples make a message, too, since the server may refuse the configuration.
    for begin in range(0, max(len(triples), 1), step):
        part = triples[begin : begin + step]
        encoded = messages.encode_triples(part, dataset.num_entities, dataset.num_relations)
        yield pb.ContainsRequest(triples=encoded), len(part)


def sample_configuration(dataset: Dataset, config: SamplerConfig) -> pb.SampleRequest:
    """Encode the first message of a ``Sample`` stream.

    :raises InvalidRequestError: for a name, or a number, that the message can't hold
    """
    return pb.SampleRequest(
        configuration=pb.SampleConfiguration(
            dataset=dataset.name,
            expected_fingerprint=dataset.fingerprint,
            sampler=messages.encode_config(config),
        )
    )
