"""Pairs of a stream, and the known values that answer them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve._protocol import messages
from negserve._protocol.messages import check_equal, check_range, invalid
from negserve._protocol.pipelines import RequestPipeline
from negserve.types.answers.known_values import KnownValues
from negserve.types.checks.invalid import check_name
from negserve.types.config import SLOTS
from negserve.types.dataset import Dataset
from negserve.types.triples import as_pairs, narrowest_dtype
from negserve.v1 import sampler_pb2 as pb

#: Most pairs of one request: the server answers one while the next ones are under way.
_PAIRS_PER_MESSAGE = 1 << 14


class KnownPipeline(RequestPipeline[pb.KnownRequest, int, pb.KnownResponse]):
    """The pairs of one call, in messages within the server's limits.

    :ivar configuration: the first message of each stream
    :param pairs: integer ids, shape (n, 2), any n
    :param slot: whose values are asked for
    :param splits: names of splits, at least one
    :raises InvalidRequestError: for another shape, or an unknown slot or split
    """

    def __init__(
        self, dataset: Dataset, pairs: ArrayLike, slot: str, splits: Sequence[str]
    ) -> None:
        array = as_pairs(pairs)
        check_name("slot", slot, SLOTS)
        self.configuration = pb.KnownRequest(
            configuration=pb.KnownConfiguration(
                dataset=dataset.name,
                expected_fingerprint=dataset.fingerprint,
                splits=messages.encode_splits(splits),
                slot=messages.SLOTS[slot],
            )
        )
        first, second = (_num_ids(dataset, name) for name in SLOTS if name != slot)
        self._num_ids = _num_ids(dataset, slot)
        self._complete: list[KnownValues] = []
        # Of the first unanswered request, by any stream.
        self._most_numbers = 0
        self._begin_request()
        super().__init__(
            _requests(array, (first, second), dataset.limits.max_triples_per_message),
            dataset.limits,
        )

    def start(self) -> list[pb.KnownRequest]:
        """Return the requests to send first on a stream, which answers the first anew."""
        self._begin_request()
        return super().start()

    def _begin_request(self) -> None:
        """Expect the first message about a request."""
        self._counts: NDArray[np.int64] | None = None
        self._values: list[NDArray[np.unsignedinteger]] = []
        #: Pairs all of whose values have arrived.
        self._num_complete = 0
        #: Largest value so far of the next pair, if some of its values have arrived.
        self._largest: int | None = None

    def _num_rows(self, asked: int) -> int:
        return asked

    def _keep(self, asked: int, response: pb.KnownResponse) -> bool:
        check_equal("first_pair", response.first_pair, self._num_complete)
        counts = self._read_counts(asked - self._num_complete, response)
        values = messages.join_ids("values", [response.values], [int(counts.sum())])
        messages.check_ids("values", values, self._num_ids)
        self._check_order(counts, values)
        if self._counts is None:
            self._counts = np.zeros(asked, dtype=np.int64)
        self._counts[self._num_complete : self._num_complete + len(counts)] += counts
        self._values.append(values.astype(narrowest_dtype(self._num_ids), copy=False))
        self._num_complete += len(counts) - response.is_continued
        self._largest = int(values[-1]) if response.is_continued else None
        num_numbers = self._num_complete + int(self._counts.sum())
        is_last = self._num_complete == asked
        self.has_advanced = is_last or num_numbers > self._most_numbers
        self._most_numbers = max(num_numbers, self._most_numbers)
        if is_last:
            self._complete.append(KnownValues(self._counts, np.concatenate(self._values)))
            self._most_numbers = 0
            self._begin_request()
        return is_last

    def _read_counts(self, most: int, response: pb.KnownResponse) -> NDArray[np.int64]:
        """Check and decode the number of values of each pair.

        :param most: number of pairs that are not complete
        """
        length = len(response.counts.data) // (response.counts.width or 1)
        # A message without pairs would never complete them.
        check_range("counts, number", length, min(most, 1), most)
        counts = messages.join_ids("counts", [response.counts], [length])
        check_range("counts", int(counts.max(initial=0)), 0, self._num_ids)
        continued = {0} if self._largest is not None else set()
        if response.is_continued:
            check_range("counts, number", length, 1, most)
            continued.add(length - 1)
        for at in continued:
            check_range(f"counts[{at}]", int(counts[at]), 1, self._num_ids)
        return counts.astype(np.int64)

    def _check_order(self, counts: NDArray[np.int64], values: NDArray[np.unsignedinteger]) -> None:
        """Check that the values of each pair ascend, also from one message to the next."""
        if self._largest is not None and int(values[0]) <= self._largest:
            raise invalid("values[0]", int(values[0]), f"above {self._largest}")
        ascends = values[1:] > values[:-1]
        begins = np.cumsum(counts)[:-1]
        ascends[begins[(begins > 0) & (begins < len(values))] - 1] = True
        if not ascends.all():
            at = int(ascends.argmin()) + 1
            raise invalid(f"values[{at}]", int(values[at]), f"above {values[at - 1]}")

    @property
    def result(self) -> KnownValues:
        """The known values, once everything is answered."""
        return KnownValues.join(self._complete)


def _num_ids(dataset: Dataset, slot: str) -> int:
    return dataset.num_relations if slot == "relation" else dataset.num_entities


def _requests(
    pairs: NDArray[np.int64], num_ids: tuple[int, int], most_pairs: int
) -> Iterator[tuple[pb.KnownRequest, int]]:
    step = min(most_pairs, _PAIRS_PER_MESSAGE)
    # No pairs make a message, too, since the server may refuse the configuration.
    for begin in range(0, max(len(pairs), 1), step):
        part = pairs[begin : begin + step]
        first, second = (
            messages.encode_ids(part[:, column], num_ids[column]) for column in range(2)
        )
        yield pb.KnownRequest(pairs=pb.Pairs(first=first, second=second)), len(part)
