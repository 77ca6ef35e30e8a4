"""A sampler on a server: one stream for calls, and one for each stream of batches."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator
from functools import partial
from typing import Any

from numpy.typing import ArrayLike

from negserve._calls.per_process import PerProcess
from negserve._calls.sampler_stream import SamplerStream
from negserve._protocol.pipelines import SamplePipeline
from negserve._protocol.sampler_answers import SamplerEcho
from negserve._sync.interrupts import held, put_off, run_sync
from negserve._sync.transport import SyncTransport
from negserve.types.checks.invalid import check_integer
from negserve.types.config import SamplerConfig
from negserve.types.corrupted_batch import CorruptedBatch
from negserve.types.dataset import Dataset
from negserve.types.triples_factory import MAX_AHEAD


class RemoteSampler:
    """Draws negatives on a server. Thread-safe; pickled as its configuration.

    A stream that breaks or stalls is opened again, on the next replica if there are several, as
    long as the client's patience lasts, and what was not answered is sent again: the same
    positions give the same negatives.

    :param transport: to the dataset's server
    :param dataset: the dataset
    :param config: which negatives to draw
    :raises NegserveError: as the server's status says
    """

    def __init__(self, transport: SyncTransport, dataset: Dataset, config: SamplerConfig) -> None:
        self._set_up(transport, dataset, config, SamplerEcho(dataset, config))
        opened = self._opened.value
        with opened.lock:
            run_sync(opened.stream.open)

    def _set_up(
        self, transport: SyncTransport, dataset: Dataset, config: SamplerConfig, echo: SamplerEcho
    ) -> None:
        self.config = config
        self._state = transport, dataset, config, echo
        self._opened = PerProcess(lambda: _Opened(transport, dataset, config, echo))

    def __getstate__(self) -> tuple[Any, ...]:
        return self._state

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._set_up(*state)

    def sample(self, positives: ArrayLike, position: int) -> CorruptedBatch:
        """Corrupt positives.

        :param positives: integer ids, shape (n, 3), any n: a large batch travels in several
            messages
        :param position: position of the first positive in the stream of the seed; the i-th
            has ``position + i``
        :raises NegserveError: as the server's status says
        """
        opened = self._opened.value
        with opened.lock:
            return run_sync(opened.stream.sample, positives, position)

    def stream(
        self, batches: Iterable[tuple[ArrayLike, int]], ahead: int = 4
    ) -> Generator[CorruptedBatch, None, None]:
        """Corrupt batch after batch: the server draws the next ones while one is used.

        The iterator has a stream of its own to the server, so :meth:`sample` may be called
        meanwhile. It is not thread-safe.

        :param batches: positives, and the position of the first one, as of :meth:`sample`. Read
            by the thread that iterates. Positives may not change until their negatives are yielded
        :param ahead: most batches that are read and whose negatives are not yielded, 1 to 64
        :return: the negatives of each batch, in order. An exception of ``batches`` is raised after
            the negatives of what was read before
        :raises InvalidRequestError: for ``ahead`` outside its range
        :raises NegserveError: while iterating, as :meth:`sample`
        """
        check_integer("ahead", ahead, 1, MAX_AHEAD)
        pipeline = self._opened.value.stream.pipeline(ahead)
        return self._answers(pipeline, iter(batches), ahead)

    def parts(self, positives: ArrayLike, position: int) -> Generator[CorruptedBatch, None, None]:
        """Corrupt a batch, and give what arrived: consecutive parts, as the messages of the answer.

        Over a stream of its own, as :meth:`stream`. Parameters and errors as of :meth:`sample`.
        """
        pipeline = self._opened.value.stream.pipeline(1)
        pipeline.add_parts(positives, position)
        return self._answers(pipeline, iter(()), 1)

    def _answers(
        self, pipeline: SamplePipeline, batches: Iterator[tuple[ArrayLike, int]], ahead: int
    ) -> Generator[CorruptedBatch, None, None]:
        """Give the answers to the calls of a pipeline, and to those of further batches."""
        opened = self._opened.value
        stream = opened.take_spare()
        has_more, failure = True, None
        try:
            while True:
                is_filling = pipeline.has_room
                while is_filling and has_more and pipeline.num_calls < ahead:
                    try:
                        pipeline.add(*next(batches))
                    except StopIteration:
                        has_more = False
                    except Exception as error:
                        has_more, failure = False, error
                if not pipeline.num_calls:
                    break
                yield run_sync(stream.run, pipeline)
            if failure is not None:
                raise failure
        finally:
            with put_off():  # Python ignores exceptions here, if the iterator is garbage
                opened.give_back(stream, is_idle=not pipeline.num_calls)

    def close(self) -> None:
        """End the streams; a later :meth:`sample` opens another."""
        opened = self._opened.value
        with opened.lock, held():
            opened.stream.close()
            while opened.spare:
                opened.spare.pop().close()


class _Opened:
    """The streams of one process, and the lock of the threads that share the first.

    :ivar spare: streams without a call under way, for :meth:`RemoteSampler.stream`
    """

    def __init__(
        self, transport: SyncTransport, dataset: Dataset, config: SamplerConfig, echo: SamplerEcho
    ) -> None:
        self._make = partial(SamplerStream, transport, dataset, config, echo)
        # Reentrant: a signal handler that closes the sampler may run while its thread has the lock.
        self.lock = threading.RLock()
        self.stream = self._make()
        self.spare: list[SamplerStream] = []

    def take_spare(self) -> SamplerStream:
        """Take a spare stream, or make one."""
        try:
            return self.spare.pop()
        except IndexError:
            return self._make()

    def give_back(self, stream: SamplerStream, *, is_idle: bool) -> None:
        """Keep one stream without a call under way; end others."""
        if is_idle and not self.spare:
            self.spare.append(stream)
        else:
            stream.close()
