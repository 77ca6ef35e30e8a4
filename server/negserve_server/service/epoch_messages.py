"""The messages of a ``SampleEpoch`` stream: made ahead of the client, within bounds."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Generator

from negserve.v1 import sampler_pb2 as pb
from negserve_server.admission.ahead import Ahead, Share
from negserve_server.admission.turns import Account, Turns
from negserve_server.graph import TriplesFactory
from negserve_server.graph.epoch import Epoch
from negserve_server.sampling.batch import narrowest_dtype
from negserve_server.sampling.slices import work_of
from negserve_server.service import messages

#: Messages of this size, and up to one batch more, move most bytes per second over loopback.
_MESSAGE_BYTES = 384 * 1024
#: Messages that are made while the client takes one: one a core of a small machine.
_MESSAGES_AHEAD = 2


class EpochMessages:
    """Makes the messages of one stream.

    :param turns: where
    :param ahead: how large messages may be
    :param share: what the stream holds
    :param max_seconds: age at which no more are begun: clients open the stream again
    """

    def __init__(
        self, factory: TriplesFactory, epoch: Epoch, turns: Turns, ahead: Ahead, share: Share,
        max_seconds: float,
    ) -> None:  # fmt: skip
        self._factory = factory
        self._epoch = epoch
        self._turns = turns
        self._ahead = ahead
        self._share = share
        self._account = Account()
        self._deadline = asyncio.get_running_loop().time() + max_seconds
        self._num_batches = len(epoch)
        self._next = 0
        #: First batch, size, and what will be the message.
        self._coming: deque[tuple[int, int, asyncio.Future[bytes]]] = deque()
        config = epoch.config
        id_bytes = 2 * narrowest_dtype(factory.num_entities).itemsize
        id_bytes += narrowest_dtype(factory.num_relations).itemsize + (4 if config.weights else 0)
        self._batch_bytes = config.batch_size * id_bytes + messages.batch_bytes(
            epoch.sampler, config.batch_size
        )

    async def all(self) -> AsyncGenerator[bytes, None]:
        """Give the messages, in order."""
        try:
            while self._coming or self._may_begin:
                if not self._coming:
                    step = self._step()
                    await self._share.take(step * self._batch_bytes)
                    self._begin(step)
                self._begin_ahead()
                _, size, future = self._coming.popleft()
                message = await future
                del future
                self._begin_ahead()
                # What is made ahead of a client that stopped reading is dropped, and made again
                # when it goes on: batches are pure functions.
                self._share.begin_sending(size, self._drop)
                yield message
                self._share.end_sending()
                del message
        finally:
            self._drop()

    @property
    def _may_begin(self) -> bool:
        if self._next >= self._num_batches:
            return False
        # Ended early, a stream is opened again by the client, on any replica.
        return self._next == 0 or asyncio.get_running_loop().time() <= self._deadline

    def _step(self) -> int:
        """Say how many batches the next message has: at least one."""
        size = min(_MESSAGE_BYTES, self._ahead.fair_bytes)
        step = max(1, -(-size // self._batch_bytes))
        return min(step, self._num_batches - self._next)

    def _begin_ahead(self) -> None:
        while len(self._coming) < _MESSAGES_AHEAD and self._may_begin:
            step = self._step()
            if not self._share.take_ahead(step * self._batch_bytes):
                return
            self._begin(step)

    def _begin(self, step: int) -> None:
        config = self._epoch.config
        work = work_of(step * config.batch_size, self._epoch.sampler.config.num_negs_per_pos)
        batches = range(self._next, self._next + step)
        future = self._turns.begin(self._account, work, self._make(batches))
        self._coming.append((self._next, step * self._batch_bytes, future))
        self._next += step

    def _drop(self) -> None:
        """Let go of what was made ahead."""
        if not self._coming:
            return
        self._next = self._coming[0][0]
        for _, size, future in self._coming:
            if future.done() and not future.cancelled():
                future.exception()  # which another one told, or will
            future.cancel()
            self._share.give_back(size)
        self._coming.clear()

    def _make(self, indices: range) -> Generator[None, None, bytes]:
        """Make a message of some batches, in steps."""
        message = pb.SampleEpochResponse()
        for index in indices:
            batch = yield from self._epoch.batch_in_steps(index)
            messages.encode_epoch_batch(
                batch,
                self._factory.num_entities,
                self._factory.num_relations,
                message.batches.batches.add(),
            )
            del batch
            yield
        return message.SerializeToString()
