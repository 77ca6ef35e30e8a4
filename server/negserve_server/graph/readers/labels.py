"""Labels of one kind, entities or relations, each held once."""

from __future__ import annotations

import polars as pl

from negserve_server.graph.readers.columns import Table


class Labels:
    """The distinct labels of some columns, numbered as they are found."""

    def __init__(self) -> None:
        self._dtype = pl.Categorical(pl.Categories.random())
        self._num_labels = self._num_training = 0
        self._all = pl.Series(dtype=pl.String)

    def encode(self, column: pl.Series) -> pl.Series:
        """Replace labels by their numbers; the column still shows labels."""
        encoded = column.cast(self._dtype)
        last = encoded.to_physical().max()
        if isinstance(last, int):
            self._num_labels = max(self._num_labels, last + 1)
        return encoded

    def end_training(self) -> None:
        """Note that all labels so far are of training triples, and that later ones are not."""
        self._num_training = len(self.all)

    @property
    def all(self) -> pl.Series:
        """All labels, by their numbers."""
        if len(self._all) < self._num_labels:
            numbers = pl.int_range(self._num_labels, dtype=pl.UInt32, eager=True)
            self._all = numbers.cat.to(self._dtype).cast(pl.String)
        return self._all

    @property
    def training(self) -> pl.Series:
        """Those of the training triples."""
        return self.all[: self._num_training]


def encoded(table: Table, labels: dict[str, Labels]) -> pl.DataFrame:
    """Replace the labels of a table by their numbers.

    :param labels: of each column
    """
    return pl.DataFrame(
        [
            labels[column.name].encode(column) if column.dtype == pl.String else column
            for column in table.frame
        ]
    )
