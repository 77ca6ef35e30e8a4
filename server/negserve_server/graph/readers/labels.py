"""Labels of one kind, entities or relations, each held once."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from negserve_server.graph.readers.formats.columns import Table
from negserve_server.jit.compiled import compiled
from negserve_server.jit.constants import FIBONACCI, U1, U32

#: Labels that are numbered at a time.
_BLOCK = 2**20

#: Number that marks an empty place of the table.
_NONE = np.uint32(2**32 - 1)


class Labels:
    """The distinct labels of some columns, numbered as they are found.

    Labels are told apart by polars' hash of 64 bits, in a hash table that is at most half full;
    then each is compared with the label that its number stands for. So those that share a hash, if
    there ever are any, get numbers of their own.
    """

    def __init__(self) -> None:
        self._hashes = np.zeros(1024, dtype=np.uint64)
        self._numbers = np.full(1024, _NONE, dtype=np.uint32)
        self._num_labels = self._num_training = 0
        self._all = pl.Series(dtype=pl.String)
        #: Numbers of labels whose hash is that of another one.
        self._others: dict[str, int] = {}

    def encode(self, column: pl.Series) -> pl.Series:
        """Replace labels by their numbers, uint32."""
        numbers = np.empty(len(column), dtype=np.uint32)
        found = [self._all]
        for rows in _blocks(len(column)):
            block = column[rows]
            self._make_room(len(block))
            is_new = np.zeros(len(block), dtype=np.bool_)
            self._num_labels = number_hashes(
                _hashes(block), self._hashes, self._numbers, self._num_labels,
                numbers[rows], is_new,
            )  # fmt: skip
            found.append(block.filter(pl.Series(is_new)))
        self._all = pl.concat(found, rechunk=True)  # gathers from many pieces are slow
        for rows in _blocks(len(column)):
            block = column[rows]
            is_other = self._all.gather(numbers[rows]) != block
            if is_other.any():
                others = block.filter(is_other)
                self._add_others(others.unique(maintain_order=True))
                own = [self._others[label] for label in others]
                numbers[rows][is_other.to_numpy()] = own
        return pl.Series(column.name, numbers)

    def _add_others(self, labels: pl.Series) -> None:
        new = [label for label in labels if label not in self._others]
        for label in new:
            self._others[label] = self._num_labels
            self._num_labels += 1
        self._all = pl.concat([self._all, pl.Series(new, dtype=pl.String)])

    def _make_room(self, num_new: int) -> None:
        """Let the table be at most half full after so many more labels."""
        size = len(self._hashes)
        while size < 2 * (self._num_labels + num_new):
            size *= 2
        if size > len(self._hashes):
            hashes, numbers = self._hashes, self._numbers
            self._hashes = np.zeros(size, dtype=np.uint64)
            self._numbers = np.full(size, _NONE, dtype=np.uint32)
            insert_hashes(hashes, numbers, self._hashes, self._numbers)

    def end_training(self) -> None:
        """Note that all labels so far are of training triples, and that later ones are not."""
        self._num_training = self._num_labels

    @property
    def all(self) -> pl.Series:
        """All labels, by their numbers."""
        return self._all

    @property
    def training(self) -> pl.Series:
        """Those of the training triples."""
        return self._all[: self._num_training]


def encoded(table: Table, labels: dict[str, Labels]) -> pl.DataFrame:
    """Replace the labels of a table by their numbers.

    :param labels: of each column
    """
    return pl.DataFrame([labels[column.name].encode(column) for column in table.frame])


def _blocks(num_rows: int) -> list[slice]:
    return [slice(first, first + _BLOCK) for first in range(0, num_rows, _BLOCK)]


def _hashes(labels: pl.Series) -> NDArray[np.uint64]:
    hashes: NDArray[np.uint64] = labels.hash().to_numpy(writable=True)
    return hashes


@compiled
def number_hashes(
    hashes: NDArray[np.uint64],
    table: NDArray[np.uint64],
    table_numbers: NDArray[np.uint32],
    num_known: int,
    numbers: NDArray[np.uint32],
    is_new: NDArray[np.bool_],
) -> int:
    """Give numbers to hashes, in the order in which they are found.

    :param hashes: shape (n,)
    :param table: hash table of the hashes that are known, of a power of two places
    :param table_numbers: their numbers
    :param num_known: how many there are
    :param numbers: written, shape (n,)
    :param is_new: written where a hash is found first, shape (n,)
    :return: how many are known then
    """
    mask = np.uint64(len(table) - 1)
    number = np.uint32(num_known)
    for i in range(len(hashes)):
        at = ((hashes[i] * FIBONACCI) >> U32) & mask
        while table_numbers[at] != _NONE and table[at] != hashes[i]:
            at = (at + U1) & mask
        if table_numbers[at] == _NONE:
            table[at] = hashes[i]
            table_numbers[at] = number
            is_new[i] = True
            number += np.uint32(1)
        numbers[i] = table_numbers[at]
    return int(number)


@compiled
def insert_hashes(
    old: NDArray[np.uint64],
    old_numbers: NDArray[np.uint32],
    table: NDArray[np.uint64],
    table_numbers: NDArray[np.uint32],
) -> None:
    """Insert the hashes of a table into a larger, empty one."""
    mask = np.uint64(len(table) - 1)
    for i in range(len(old)):
        if old_numbers[i] != _NONE:
            at = ((old[i] * FIBONACCI) >> U32) & mask
            while table_numbers[at] != _NONE:
                at = (at + U1) & mask
            table[at] = old[i]
            table_numbers[at] = old_numbers[i]


def warm_up() -> None:
    """Compile the kernels, without polars: its threads must not be in a process that forks."""
    hashes, numbers = np.zeros(2, dtype=np.uint64), np.full(2, _NONE, dtype=np.uint32)
    number_hashes(hashes[:1], hashes, numbers, 0, numbers[:1].copy(), np.zeros(1, dtype=np.bool_))
    insert_hashes(hashes, numbers, np.zeros(4, dtype=np.uint64), np.full(4, _NONE, dtype=np.uint32))
