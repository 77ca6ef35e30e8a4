"""Labels and their ids."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import polars as pl

from negserve.types.checks.invalid import invalid_configuration

#: Of a label that a client gives. Those of files have no bound but the file's size.
MAX_LABEL_BYTES = 4096
#: What a line of tab-separated labels can't hold.
_ILLEGAL = r"[\x00\t\r\n]"


class Vocabulary:
    """The labels of an id space; a label's index is its id.

    :param labels: distinct labels in the order of their ids
    """

    def __init__(self, labels: pl.Series) -> None:
        self._labels = labels

    @classmethod
    def from_mapping(cls, label_to_id: Mapping[str, int]) -> Vocabulary:
        """Take ids as given.

        :raises ValueError: unless the ids are exactly 0 to n - 1
        """
        by_id = sorted(label_to_id.items(), key=lambda item: item[1])
        if [i for _, i in by_id] != list(range(len(by_id))):
            raise ValueError(f"ids of {len(by_id)} labels must be 0 to {len(by_id) - 1}, each once")
        return cls(pl.Series([label for label, _ in by_id], dtype=pl.String))

    @classmethod
    def distinct(cls, labels: pl.Series) -> Vocabulary:
        """Take labels in the order of their ids.

        :raises InvalidRequestError: for a label that is there twice
        """
        is_repeated = ~labels.is_first_distinct()
        if is_repeated.any():
            raise invalid_configuration(
                "labels", labels.filter(is_repeated)[0], "give each id a label of its own"
            )
        return cls(labels)

    @classmethod
    def numbers(cls, size: int) -> Vocabulary:
        """Take the ids 0 to ``size - 1``, written out, as labels."""
        return cls(pl.int_range(size, eager=True).cast(pl.String))

    @staticmethod
    def check_labels(labels: pl.Series) -> None:
        """Refuse labels of clients that no file could give.

        :raises InvalidRequestError: naming the first one, and what is legal
        """
        size = labels.str.len_bytes()
        is_wrong = (size == 0) | (size > MAX_LABEL_BYTES) | labels.str.contains(_ILLEGAL)
        if is_wrong.any():
            raise invalid_configuration(
                "labels",
                labels.filter(is_wrong)[0][:100],
                f"give 1 to {MAX_LABEL_BYTES} bytes of UTF-8, without NUL, tab and line breaks",
            )

    @property
    def series(self) -> pl.Series:
        """The labels in the order of their ids."""
        return self._labels

    def __len__(self) -> int:
        """Count the labels."""
        return len(self.series)

    @property
    def num_bytes(self) -> int:
        """How many bytes the labels have in UTF-8, together."""
        return int(self._labels.str.len_bytes().sum())

    def ids(self, column: pl.Series) -> pl.Series:
        """Map labels to ids, uint32; null where the label is not in the vocabulary."""
        return column.cast(pl.Enum(self.series), strict=False).to_physical().cast(pl.UInt32)

    def labels(self, first: int = 0, end: int | None = None) -> list[str]:
        """Labels in the order of their ids: all, or those from ``first`` to before ``end``."""
        labels: list[str] = self._labels[first:end].to_list()
        return labels

    def id_of(self, label: str) -> int | None:
        """Find the id of a label; None if there is none. :attr:`label_to_id` costs more memory."""
        return self._labels.index_of(label)

    @cached_property
    def label_to_id(self) -> Mapping[str, int]:
        """Map each label to its id."""
        return {label: i for i, label in enumerate(self.labels())}
