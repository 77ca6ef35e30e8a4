"""Triples to be looked up, as an exchange over a ``Contains`` stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve._protocol import messages
from negserve._protocol.answers import check_equal, check_flags
from negserve._protocol.exchange import Exchange
from negserve.types.dataset import Dataset
from negserve.types.triples import as_triples
from negserve.v1 import sampler_pb2 as pb


class ContainsExchange(Exchange[pb.ContainsRequest, pb.ContainsResponse]):
    """One question, cut into messages within the server's limits.

    :ivar configuration: the first message of each stream
    :ivar result: bool, shape (n,), once done
    :param triples: integer ids, shape (n, 3), any n
    :param splits: names of splits, at least one
    :raises InvalidRequestError: for another shape, or a name that is no split
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
        super().__init__(_requests(dataset, array), dataset.limits)

    def _keep(self, request: pb.ContainsRequest, response: pb.ContainsResponse) -> None:
        asked = request.triples.heads
        count = len(asked.data) // (asked.width or 1)
        check_equal("num_triples", response.num_triples, count)
        check_flags("known", response.known, count)
        known = messages.decode_flags(response.known, count)
        self.result[self._num_known : self._num_known + count] = known
        self._num_known += count


def _requests(dataset: Dataset, triples: NDArray[np.int64]) -> Iterator[pb.ContainsRequest]:
    step = dataset.limits.max_triples_per_message
    # Also no triples are asked about: the configuration may be refused.
    for begin in range(0, max(len(triples), 1), step):
        yield pb.ContainsRequest(
            triples=messages.encode_triples(
                triples[begin : begin + step], dataset.num_entities, dataset.num_relations
            )
        )
