"""Labels of one kind, entities or relations, each held once."""

from __future__ import annotations

import polars as pl

from negserve_server.graph.readers.columns import Table


class Labels:
    """The distinct labels of some columns, numbered as they are found."""

    def __init__(self) -> None:
        self._categories = pl.Categories.random()
        self._num_training = 0

    def encode(self, column: pl.Series) -> pl.Series:
        """Replace labels by their numbers; the column still shows labels."""
        return column.cast(pl.Categorical(self._categories))

    def end_training(self) -> None:
        """Note that all labels so far are of training triples, and that later ones are not."""
        self._num_training = len(self.all)

    @property
    def all(self) -> pl.Series:
        """All labels, by their numbers."""
        return self._categories.to_series()

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
