"""Positives to be corrupted, as an exchange over a ``Sample`` stream."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve._protocol import messages
from negserve._protocol.answers import check_member
from negserve._protocol.batch_reader import BatchReader, Columns
from negserve._protocol.exchange import Exchange
from negserve.errors import InvalidRequestError
from negserve.types.config import SamplerConfig
from negserve.types.corrupted_batch import CorruptedBatch, join_batches
from negserve.types.dataset import Dataset
from negserve.types.triples import as_triples
from negserve.v1 import sampler_pb2 as pb


class SampleExchange(Exchange[pb.SampleRequest, pb.SampleResponse]):
    """One call of a sampler, cut into messages within the server's limits.

    :param positives: integer ids, shape (n, 3), any n
    :param position: position of the first positive in the stream of the seed
    :raises InvalidRequestError: for another shape, or positions beyond 2^64 - 1
    """

    def __init__(
        self, dataset: Dataset, config: SamplerConfig, positives: ArrayLike, position: int
    ) -> None:
        triples = as_triples(positives)
        if not 0 <= position <= 2**64 - max(len(triples), 1):
            raise InvalidRequestError(
                f"{len(triples)} positives from position {position} on leave the range 0 to "
                f"{2**64 - 1}; start at a smaller position",
                reason="POSITION_OUT_OF_RANGE",
            )
        self._reader = BatchReader(dataset, config)
        self._batches: list[CorruptedBatch] = []
        #: What the server said along with its answers.
        self.notices: list[pb.Notice] = []
        super().__init__(_requests(dataset, config, triples, position), dataset.limits)

    def _keep(self, request: pb.SampleRequest, response: pb.SampleResponse) -> None:
        check_member("message", response, "batch")
        asked = request.positives
        columns = (asked.triples.heads, asked.triples.relations, asked.triples.tails)
        positives = Columns(*(messages.decode_ids(column) for column in columns))
        due = asked.position, len(positives.heads)
        self._batches += self._reader.read("batch", [response.batch], [due], positives)
        self.notices += response.notices

    def result(self) -> CorruptedBatch:
        """Give the negatives of all positives, once done."""
        return join_batches(self._batches)


def _requests(
    dataset: Dataset, config: SamplerConfig, triples: NDArray[np.int64], position: int
) -> Iterator[pb.SampleRequest]:
    step = dataset.limits.positives_per_message(config.num_negs_per_pos, config.log_q)
    for begin in range(0, max(len(triples), 1), step):
        yield pb.SampleRequest(
            positives=pb.Positives(
                position=position + begin,
                triples=messages.encode_triples(
                    triples[begin : begin + step], dataset.num_entities, dataset.num_relations
                ),
            )
        )


def configuration(dataset: Dataset, config: SamplerConfig) -> pb.SampleRequest:
    """Give the first message of a stream."""
    return pb.SampleRequest(
        configuration=pb.SampleConfiguration(
            dataset=dataset.name,
            expected_fingerprint=dataset.fingerprint,
            sampler=messages.encode_config(config),
        )
    )
