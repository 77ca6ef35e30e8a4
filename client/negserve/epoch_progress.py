"""One epoch, read over as many streams as it takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from negserve import wire
from negserve.config import SamplerConfig
from negserve.dataset import Dataset
from negserve.epoch import EpochBatch, EpochConfig
from negserve.v1 import sampler_pb2 as pb


class EpochProgress:
    """What an epoch has still to give. Does no I/O.

    Whoever has a stream opens it with :meth:`request`, gives each message to :meth:`take`, and
    does so until :attr:`is_done`.

    :ivar dataset: what the epoch is of
    :ivar is_done: whether the last batch was given
    :ivar has_begun: whether the stream at hand gave a batch, or said that none is left
    """

    def __init__(
        self,
        dataset: Dataset,
        sampler: SamplerConfig,
        config: EpochConfig,
        epoch: int,
        start: int,
    ) -> None:
        self.dataset = dataset
        self._sampler = sampler
        self._config = config
        self._epoch = epoch
        self._start = start
        self._num_left: int | None = None
        self.is_done = False
        self.has_begun = False

    def request(self) -> pb.SampleEpochRequest:
        """Give what another stream is opened with: it goes on where the one before was.

        :raises InvalidRequestError: for a name, or a number, that the message can't hold
        """
        self._num_left = None
        self.has_begun = False
        return wire.encode_epoch_request(
            self.dataset.name,
            self.dataset.fingerprint,
            self._sampler,
            self._config,
            self._epoch,
            self._start,
        )

    def take(self, message: pb.SampleEpochResponse) -> Iterator[tuple[EpochBatch | None, bool]]:
        """Iterate over a message's batches, with each whether it is the epoch's last.

        A batch counts as given when the next one is asked for. If the epoch has none left, the
        only item is (None, True).
        """
        if self._num_left is None:
            self._num_left = message.configured.num_batches
            if self._num_left == 0:
                self.has_begun = True
                yield None, True
                self.is_done = True
            return
        for encoded in message.batches.batches:
            batch = wire.decode_epoch_batch(encoded, self._sampler, self._config, self._epoch)
            self._num_left -= 1
            yield batch, self._num_left == 0
            self.has_begun = True
            self._start = batch.next_start
            # From here on, the first batch is another worker's, and the last one this one's.
            self._config = replace(self._config, worker=self._config.num_workers - 1)
        self.is_done = self._num_left == 0
