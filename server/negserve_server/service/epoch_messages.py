"""The messages of a ``SampleEpoch`` stream, prepared ahead of the client within bounds."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negserve.types.triples import narrowest_dtype
from negserve.v1 import sampler_pb2 as pb
from negserve_server.access.usage import USE
from negserve_server.admission.fair_queue import Flow
from negserve_server.admission.scheduler import Scheduler
from negserve_server.admission.send_budget import BudgetShare, SendBudget
from negserve_server.graph import TriplesFactory
from negserve_server.graph.epoch import Epoch
from negserve_server.graph.epoch_batches import EpochBatches
from negserve_server.metrics.draw_meter import DrawMeter
from negserve_server.metrics.message_record import MessageRecord
from negserve_server.sampling.slices import work_of
from negserve_server.service import messages

#: Size of the messages of a stream that is alone, and up to one batch more: larger ones have no
#: more throughput over loopback.
_ALONE_BYTES = 1024 * 1024
#: Their size where many streams wait for each other.
_SHARED_BYTES = 384 * 1024
#: Messages prepared while the client receives one. Alone, a stream has more of them: else the
#: engine stands still now and then, because the client takes two at once.
_ALONE_AHEAD = 4
_SHARED_AHEAD = 2


class EpochMessages:
    """Makes the messages of one stream.

    :param scheduler: runs the work
    :param send_budget: bounds the size of messages
    :param budget: the share of this stream
    :param max_seconds: age of the stream after which no message is begun: clients open it again
    :param num_epochs: how many epochs it may have, at least 1
    :param meter: counts and times the negatives
    :ivar num_negatives: negatives in the message that was given last
    """

    def __init__(
        self,
        factory: TriplesFactory,
        epoch: Epoch,
        scheduler: Scheduler,
        send_budget: SendBudget,
        budget: BudgetShare,
        max_seconds: float,
        num_epochs: int,
        meter: DrawMeter,
    ) -> None:
        self._meter = meter
        self._factory = factory
        self._epoch = epoch
        self._scheduler = scheduler
        self._send_budget = send_budget
        self._budget = budget
        self._flow = Flow()
        self._deadline = asyncio.get_running_loop().time() + max_seconds
        self._end = epoch.number + num_epochs
        self._next = 0
        self.num_negatives = 0
        self._has_begun = False
        #: Prepared messages: epoch and first batch, size in bytes, message, what it took.
        self._prepared: deque[
            tuple[tuple[Epoch, int], int, asyncio.Future[tuple[bytes, int]], MessageRecord]
        ] = deque()
        config = epoch.config
        id_bytes = 2 * narrowest_dtype(factory.num_entities).itemsize
        id_bytes += narrowest_dtype(factory.num_relations).itemsize + (4 if config.weights else 0)
        self._batch_negatives = config.batch_size * epoch.sampler.config.num_negs_per_pos
        self._batch_bytes = config.batch_size * id_bytes + messages.batch_bytes(
            epoch.sampler, config.batch_size
        )
        self._move_on()

    async def all(self) -> AsyncGenerator[bytes, None]:
        """Yield the messages in order."""
        use, k = USE.get(), self._epoch.sampler.config.num_negs_per_pos
        try:
            while self._prepared or self._may_begin:
                if not self._prepared:
                    step = self._step()
                    await self._budget.reserve(step * self._batch_bytes)
                    self._begin(step)
                self._prepare()
                _, size, future, record = self._prepared.popleft()
                message, num_positives = await future
                del future
                use.drew(num_positives, k, record.queue, record.make)
                self._meter.made(record)
                self._prepare()
                # Messages prepared for a client that stopped reading are dropped, and made again
                # when it continues: batches are pure functions.
                self._budget.begin_sending(size, self._drop)
                self.num_negatives = size // self._batch_bytes * self._batch_negatives
                yield message
                self._budget.end_sending()
                self._meter.sent(record)
                del message
        finally:
            self._drop()

    @property
    def _may_begin(self) -> bool:
        if self._next >= len(self._epoch):
            return False
        # Ended early, a stream is opened again by the client, on any replica.
        return not self._has_begun or asyncio.get_running_loop().time() <= self._deadline

    def _step(self) -> int:
        """Return the number of batches of the next message, at least one."""
        most = _ALONE_BYTES if self._budget.is_alone else _SHARED_BYTES
        size = min(most, self._send_budget.fair_bytes)
        step = max(1, -(-size // self._batch_bytes))
        return min(step, len(self._epoch) - self._next)

    def _prepare(self) -> None:
        most = _ALONE_AHEAD if self._budget.is_alone else _SHARED_AHEAD
        while len(self._prepared) < most and self._may_begin:
            step = self._step()
            if not self._budget.try_reserve(step * self._batch_bytes):
                return
            self._begin(step)

    def _begin(self, step: int) -> None:
        config = self._epoch.config
        work = work_of(step * config.batch_size, self._epoch.sampler.config.num_negs_per_pos)
        batches = range(self._next, self._next + step)
        record = self._meter.begin()
        # The first subsampling weights count the pairs of the graph, which is no short work.
        submit = self._scheduler.submit if config.weights else self._scheduler.submit_anywhere
        future = submit(self._flow, work, _make(self._epoch, batches, record))
        place = self._epoch, self._next
        self._prepared.append((place, step * self._batch_bytes, future, record))
        self._has_begun = True
        self._next += step
        self._move_on()

    def _move_on(self) -> None:
        """Go to the next epoch, if this one has no further batch."""
        if self._next < len(self._epoch) or self._epoch.number + 1 >= self._end:
            return
        following = self._epoch.following()
        if following is not None:
            self._epoch, self._next = following, 0

    def _drop(self) -> None:
        """Drop the prepared messages."""
        if not self._prepared:
            return
        self._epoch, self._next = self._prepared[0][0]
        for _, size, future, _ in self._prepared:
            if future.done() and not future.cancelled():
                future.exception()  # retrieved, so that asyncio does not log it
            future.cancel()
            self._budget.release(size)
        self._prepared.clear()


def _make(
    epoch: Epoch, indices: range, record: MessageRecord
) -> Generator[None, None, tuple[bytes, int]]:
    """Make a message of some batches, in steps; give it with the number of its positives."""
    record.begun()
    steps = epoch.batches_in_steps(indices)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            batches: EpochBatches = end.value
            break
        record.drawn()
        yield
        record.begun()
    record.drawn()
    encoded = encode_epoch_batches(batches).SerializeToString()
    negatives = batches.negatives
    num_saturated = int(np.count_nonzero(negatives.is_saturated))
    num_positives = len(negatives.is_saturated)
    record.encoded(num_positives, num_saturated, negatives.mask)
    return encoded, num_positives


class _Rows:
    """Rows of an array as bytes, of any part: slices of one buffer cost less than calls of numpy.

    :param array: shape (n,) or (n, m)
    """

    def __init__(self, array: NDArray[Any]) -> None:
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        self._bytes = little.reshape(-1).view(np.uint8).data
        self._row_bytes = array.itemsize * math.prod(array.shape[1:])
        self.width = array.itemsize

    def __getitem__(self, rows: slice) -> bytes:
        size = self._row_bytes
        return self._bytes[rows.start * size : rows.stop * size].tobytes()


class _Counts:
    """Numbers of negatives per positive, in the width that holds k."""

    def __init__(self, counts: NDArray[np.uint32], k: int) -> None:
        self._rows = _Rows(counts.astype(narrowest_dtype(k + 1))) if counts.any() else None

    def fill(self, message: pb.CorruptedBatch, name: str, positives: slice) -> None:
        """Encode those of a batch into a field; it stays absent if all are 0."""
        if self._rows is None:
            return
        counts = self._rows[positives]
        if counts != bytes(len(counts)):
            ids = getattr(message, name)
            ids.data, ids.width = counts, self._rows.width


def encode_epoch_batches(batches: EpochBatches) -> pb.SampleEpochResponse:
    """Encode batches, with a few calls of numpy for all of them together."""
    columns, negatives = batches.columns, batches.negatives
    heads, relations, tails = map(_Rows, (columns.heads, columns.relations, columns.tails))
    replaced = _Rows(negatives.replaced)
    k = negatives.config.num_negs_per_pos
    head_counts, relation_counts = (_Counts(negatives.counts[slot], k) for slot in range(2))
    log_q = None if negatives.log_q is None else _Rows(negatives.log_q)
    weights = None if batches.weights is None else _Rows(batches.weights)
    has_saturated = bool(negatives.is_saturated.any())
    message = pb.SampleEpochResponse()
    for index, place in enumerate(batches.places):
        positives = place.positives
        encoded = message.batches.batches.add()
        encoded.next_start = place.next_start
        ids = encoded.positives.heads
        ids.data, ids.width = heads[positives], heads.width
        ids = encoded.positives.relations
        ids.data, ids.width = relations[positives], relations.width
        ids = encoded.positives.tails
        ids.data, ids.width = tails[positives], tails.width
        corrupted = encoded.negatives
        corrupted.position = place.position
        corrupted.num_positives = positives.stop - positives.start
        ids = corrupted.replaced
        ids.data, ids.width = replaced[place.rows], replaced.width
        head_counts.fill(corrupted, "head_counts", positives)
        relation_counts.fill(corrupted, "relation_counts", positives)
        if has_saturated or negatives.mask is not None:
            batch = batches.batch(index).negatives
            corrupted.num_saturated = batch.num_saturated
            if batch.mask is not None and not batch.mask.all():
                corrupted.mask = messages.encode_flags(batch.mask)
        if log_q is not None:
            corrupted.log_q = log_q[positives]
        if weights is not None:
            encoded.weights = weights[positives]
    return message
