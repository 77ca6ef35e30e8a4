"""Type constraints: which entities a relation allows as heads and as tails."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from negserve_server.errors import MalformedFile
from negserve_server.graph.readers.formats.delimited import Text
from negserve_server.graph.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

#: The slots that constraints speak of.
CONSTRAINED_SLOTS = ("head", "tail")

_FIELDS = ("relation", "slot", "entity")


class TypeConstraints:
    """The entities that relations allow in their head and tail slots.

    A relation that does not occur in ``heads`` is not constrained there: every entity may be
    its head. Likewise for ``tails``. Immutable and safe to use from many threads.

    :param heads: pairs of relation id and id of an allowed head, shape (m, 2), in any order,
        repetitions allowed; may be empty unless ``tails`` is
    :param tails: likewise, allowed tails
    :param num_unseen: pairs left out for a label unseen in training
    :raises ValueError: for another shape, ids that are not integers, or if both are empty
    """

    def __init__(self, heads: ArrayLike, tails: ArrayLike, *, num_unseen: int = 0) -> None:
        self._take(_sorted_pairs(heads, "heads"), _sorted_pairs(tails, "tails"), num_unseen)

    def _take(
        self, heads: NDArray[np.integer], tails: NDArray[np.integer], num_unseen: int
    ) -> None:
        self._heads, self._tails = heads, tails
        if len(self._heads) == len(self._tails) == 0:
            raise ValueError(
                "heads and tails are both empty; a graph without type constraints has None"
            )
        self._num_unseen = num_unseen

    @classmethod
    def from_sorted(
        cls, heads: NDArray[np.integer], tails: NDArray[np.integer], *, num_unseen: int = 0
    ) -> TypeConstraints:
        """Take distinct pairs, sorted by relation, entity, without a copy; as they were stored."""
        constraints = cls.__new__(cls)
        constraints._take(heads, tails, num_unseen)
        return constraints

    @classmethod
    def from_path(
        cls, path: str | Path, *, entities: Vocabulary, relations: Vocabulary
    ) -> TypeConstraints:
        r"""Load constraints from lines of ``relation\tslot\tentity``, slot ``head`` or ``tail``.

        A line may give several entities, and a relation's slot may have several lines; so the
        ``type_constrain`` files that come with some benchmarks can be read. Pairs with a label
        that is not in the vocabularies are left out, counted in :attr:`num_unseen` and logged.

        :param path: the file, plain or gzip
        :param entities: labels of the graph's entities
        :param relations: labels of the graph's relations
        :raises MalformedFile: naming file, line and reason; also if no pair is left, or none of
            a slot that the file constrains
        """
        path = Path(path)
        frame = _read_lines(path)
        frame = frame.with_columns(
            relations.ids(frame["relation"]).alias("relation id"),
            entities.ids(frame["entity"]).alias("entity id"),
        )
        seen = frame.drop_nulls()
        num_unseen = len(frame) - len(seen)
        if num_unseen:
            logger.warning(
                "%s: %d of %d type constraints have a label that does not occur in training; "
                "left out, such as %r",
                path,
                num_unseen,
                len(frame),
                _unseen_label(frame),
            )
        # A slot that loses all its pairs would turn from constrained into free. Then none of the
        # relation's own training triples is allowed, so the file was made for other data.
        known = frame.drop_nulls("relation id")
        lost = known.join(seen, on=["relation", "slot"], how="anti").select("relation", "slot")
        if len(lost):
            relation, slot = lost.row(0)
            raise MalformedFile(
                path,
                None,
                f"no entity that {relation!r} allows as {slot} occurs in training, so none of "
                f"its triples is allowed; were these constraints made for other data?",
            )
        if seen.is_empty():
            raise MalformedFile(path, None, "none of its relations occurs in training")
        pairs = {
            slot: seen.filter(seen["slot"] == slot)
            .select("relation id", "entity id")
            .to_numpy()
            .astype(np.int64)
            for slot in CONSTRAINED_SLOTS
        }
        return cls(pairs["head"], pairs["tail"], num_unseen=num_unseen)

    @property
    def heads(self) -> NDArray[np.integer]:
        """The distinct pairs of relation id and allowed head, sorted, shape (m, 2), read-only."""
        return self._heads

    @property
    def tails(self) -> NDArray[np.integer]:
        """The distinct pairs of relation id and allowed tail, sorted, shape (m, 2), read-only."""
        return self._tails

    @property
    def num_unseen(self) -> int:
        """How many pairs were left out for a label unseen in training."""
        return self._num_unseen

    @property
    def num_constrained_slots(self) -> int:
        """How many pairs of relation and slot are constrained."""
        return sum(len(np.unique(pairs[:, 0])) for pairs in (self._heads, self._tails))

    def check_ids(self, num_entities: int, num_relations: int) -> None:
        """Refuse ids outside the id space.

        :raises ValueError: naming the first bad id, its slot and the limit
        """
        for slot, pairs in (("head", self._heads), ("tail", self._tails)):
            for column, kind, kinds, limit in (
                (0, "relation", "relations", num_relations),
                (1, "entity", "entities", num_entities),
            ):
                ids = pairs[:, column]
                bad = ids[(ids < 0) | (ids >= limit)]
                if len(bad):
                    raise ValueError(
                        f"{kind} id {bad[0]} of the type constraints of {slot}s is out of range: "
                        f"the graph has {limit} {kinds}, ids 0 to {limit - 1}"
                    )


def _read_lines(path: Path) -> pl.DataFrame:
    """Read pairs of a relation's slot and an entity, a row each, from tab-separated lines.

    :raises MalformedFile: naming the first bad line
    """
    text = Text(path, "\t")
    lines = text.whole_lines()
    if lines.is_empty():
        raise MalformedFile(path, None, "holds no type constraints")
    parts = lines["line"].str.splitn("\t", 3).struct.rename_fields(_FIELDS).struct.unnest()
    frame = parts.with_columns(lines["number"], pl.col("entity").str.split("\t")).explode("entity")
    is_bad = frame.select(
        pl.any_horizontal(pl.col(name).is_null() | (pl.col(name) == "") for name in _FIELDS)
        | ~pl.col("slot").is_in(CONSTRAINED_SLOTS)
    ).to_series()
    if is_bad.any():
        row = int(is_bad.arg_max() or 0)
        relation, slot, entity, number = frame.select(*_FIELDS, "number").row(row)
        raise MalformedFile(path, number, _why_bad(relation, slot, entity))
    return frame.select(_FIELDS)


def _why_bad(relation: str | None, slot: str | None, entity: str | None) -> str:
    values = [relation, slot, entity]
    count = sum(value is not None for value in values)
    if count < len(_FIELDS):
        return f"{count} tab-separated fields; expected 3 or more ({', '.join(_FIELDS)})"
    for name, value in zip(_FIELDS, values, strict=True):
        if not value:
            return f"the {name} is empty"
        if name == "slot" and value not in CONSTRAINED_SLOTS:
            break
    return f"the slot is {slot!r}; give {' or '.join(CONSTRAINED_SLOTS)}"


def _unseen_label(frame: pl.DataFrame) -> str:
    """Give a label without an id."""
    unseen = frame.filter(pl.col("relation id").is_null() | pl.col("entity id").is_null()).row(
        0, named=True
    )
    label: str = unseen["relation" if unseen["relation id"] is None else "entity"]
    return label


def _sorted_pairs(pairs: ArrayLike, name: str) -> NDArray[np.int64]:
    """Check pairs, sort them by first and second column, and drop repetitions.

    :return: int64, C-contiguous, read-only, shape (m, 2)
    """
    array = np.asarray(pairs)
    if array.shape == (0,):  # an empty list
        array = np.empty((0, 2), dtype=np.int64)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"{name} have shape {array.shape}; give (m, 2): relation, entity")
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} have dtype {array.dtype}; give integer ids")
    if array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name} have an id {array.max()}; an id space holds at most 2^32")
    ordered: NDArray[np.int64] = array[np.lexsort((array[:, 1], array[:, 0]))].astype(np.int64)
    keep = np.ones(len(ordered), dtype=np.bool_)
    keep[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    ordered = ordered[keep]
    ordered.flags.writeable = False
    return ordered
