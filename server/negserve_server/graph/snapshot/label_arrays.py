"""Labels as arrays: one run of UTF-8, where each label begins, and their sorted order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from negserve_server.graph.vocabulary import Vocabulary

_BLOCK = 2**16


def label_arrays(vocabulary: Vocabulary) -> dict[str, NDArray[Any]]:
    """Give the labels of a vocabulary as arrays, to be stored.

    :return: ``labels``, uint8: UTF-8 of all labels in the order of their ids; ``offsets``, uint64,
        shape (n + 1,): where each begins, and the end; unless the labels are sorted, ``order``,
        uint32, shape (n,): ids by label, compared as bytes
    """
    labels = np.empty(vocabulary.num_bytes, dtype=np.uint8)
    offsets = np.zeros(len(vocabulary) + 1, dtype="<u8")
    end = 0
    is_sorted = True
    last = b""
    for first in range(0, len(vocabulary), _BLOCK):
        some = [label.encode() for label in vocabulary.labels(first, first + _BLOCK)]
        is_sorted = is_sorted and last <= some[0] and some == sorted(some)
        last = some[-1]
        run = b"".join(some)
        labels[end : end + len(run)] = np.frombuffer(run, dtype=np.uint8)
        sizes = np.fromiter(map(len, some), dtype=np.int64, count=len(some))
        offsets[first + 1 : first + 1 + len(some)] = end + np.cumsum(sizes)
        end += len(run)
    arrays = {"labels": labels, "offsets": offsets}
    if not is_sorted:
        arrays["order"] = vocabulary.series.arg_sort().to_numpy().astype("<u4")
    return arrays


class MappedVocabulary(Vocabulary):
    """The labels of a snapshot, searched where they are: opening it makes no object a label.

    :param arrays: as :func:`label_arrays` gives them
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._run, self._offsets = arrays["labels"], arrays["offsets"]
        self._order = arrays.get("order")

    def __len__(self) -> int:
        """Count the labels."""
        return len(self._offsets) - 1

    @property
    def series(self) -> pl.Series:
        """The labels in the order of their ids, made at each access."""
        return pl.Series(self.labels(), dtype=pl.String)

    @property
    def num_bytes(self) -> int:
        """How many bytes the labels have in UTF-8, together."""
        return len(self._run)

    def labels(self, first: int = 0, end: int | None = None) -> list[str]:
        """Labels in the order of their ids: all, or those from ``first`` to before ``end``."""
        offsets = self._offsets[slice(first, end if end is None else end + 1)].astype(np.int64)
        if len(offsets) < 2:
            return []
        run = self._run[offsets[0] : offsets[-1]].tobytes()
        bounds = (offsets - offsets[0]).tolist()
        return [run[begin:stop].decode() for begin, stop in itertools.pairwise(bounds)]

    @cached_property
    def label_to_id(self) -> Mapping[str, int]:
        """Map each label to its id; a look-up reads some twenty labels."""
        return _Ids(self)

    def id_of(self, label: str) -> int | None:
        """Find the id of a label, by bisection; None if there is none."""
        wanted = label.encode("utf-8", "surrogatepass")
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self._bytes(self._at(middle)) < wanted:
                low = middle + 1
            else:
                high = middle
        if low == len(self) or self._bytes(self._at(low)) != wanted:
            return None
        return self._at(low)

    def _at(self, rank: int) -> int:
        return rank if self._order is None else int(self._order[rank])

    def _bytes(self, id_: int) -> bytes:
        return self._run[int(self._offsets[id_]) : int(self._offsets[id_ + 1])].tobytes()


class _Ids(Mapping[str, int]):
    """Ids by label."""

    def __init__(self, vocabulary: MappedVocabulary) -> None:
        self._vocabulary = vocabulary

    def __getitem__(self, label: str) -> int:
        found = self._vocabulary.id_of(label) if isinstance(label, str) else None
        if found is None:
            raise KeyError(label)
        return found

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _BLOCK):
            yield from self._vocabulary.labels(first, first + _BLOCK)

    def __len__(self) -> int:
        return len(self._vocabulary)
