"""Epochs that are made in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from negserve._protocol.epoch_progress import EpochState
from negserve.types.config import SamplerConfig
from negserve.types.epoch import EpochBatch, EpochConfig

if TYPE_CHECKING:
    from negserve._local.triples_factory import LocalTriplesFactory


class LocalEpochStream(EpochState):
    """The training triples of a dataset with their negatives, epoch after epoch.

    As :class:`negserve.EpochStream`, with equal batches and states; a thread makes batches ahead.

    :param factory: the dataset
    :param sampler: which negatives
    :param config: which positives; None for the defaults
    :param prefetch: batches made ahead, at least 1
    :param digest: whether to keep a running SHA-256 of all batches
    """

    def __init__(
        self,
        factory: LocalTriplesFactory,
        sampler: SamplerConfig,
        config: EpochConfig | None = None,
        *,
        prefetch: int = 4,
        digest: bool = False,
    ) -> None:
        super().__init__(sampler, config, prefetch=prefetch, digest=digest)
        self._factory = factory

    def __iter__(self) -> Iterator[EpochBatch]:
        """Iterate over what is left of the epoch.

        :raises InvalidRequestError: if the graph can't serve one of the configurations
        """
        number, start, _ = self._place
        epoch = self._factory.graph.epoch(self.sampler, self.config, number=number, start=start)
        last = len(epoch) - 1
        if last < 0:
            self._end_empty()
            return
        indices = iter(range(len(epoch)))
        made: deque[Future[Any]] = deque()
        pool = ThreadPoolExecutor(1, thread_name_prefix="negserve-epoch")
        try:
            for index in range(len(epoch)):
                while len(made) < self.prefetch and (ahead := next(indices, None)) is not None:
                    made.append(pool.submit(epoch.batch, ahead))
                batch: EpochBatch = made.popleft().result()
                (self._place,) = self._after([batch], is_last=index == last)
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)
