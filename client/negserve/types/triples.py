"""Mapped triples and pairs: their check, their sort, and the width of their ids."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.errors import InvalidRequestError


def as_triples(triples: ArrayLike) -> NDArray[np.int64]:
    """Check shape and dtype of triples. Ids are not compared with an id space.

    :return: int64, C-contiguous and writeable, shape (n, 3); the array itself if it is all that
    :raises InvalidRequestError: for another shape, or ids that are not integers below 2^63
    """
    return _as_rows("triples", triples, 3, "head, relation, tail")


def as_pairs(pairs: ArrayLike) -> NDArray[np.int64]:
    """Check shape and dtype of pairs, as :func:`as_triples` does.

    :return: likewise, shape (n, 2)
    :raises InvalidRequestError: likewise
    """
    return _as_rows("pairs", pairs, 2, "two ids of a triple, in the order head, relation, tail")


def _as_rows(name: str, ids: ArrayLike, width: int, meaning: str) -> NDArray[np.int64]:
    array = np.asarray(ids)
    if array.dtype == np.int64 and array.ndim == 2 and array.shape[1] == width:
        flags = array.flags
        if flags.c_contiguous and flags.writeable:
            return array
    if array.ndim != 2 or array.shape[1] != width:
        raise InvalidRequestError(
            f"{name} have shape {array.shape}; give (n, {width}): {meaning}",
            reason="SHAPE_MISMATCH",
            metadata={"value": str(array.shape), "expected": f"(n, {width})"},
        )
    if not np.issubdtype(array.dtype, np.integer):
        raise InvalidRequestError(
            f"{name} have dtype {array.dtype}; give integer ids",
            reason="SHAPE_MISMATCH",
            metadata={"value": str(array.dtype), "expected": "an integer dtype"},
        )
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise InvalidRequestError(
            f"{name} have an id {array.max()}; an id space holds at most 2^32",
            reason="ENTITY_ID_OUT_OF_RANGE",
            metadata={"value": str(array.max()), "limit": str(2**32)},
        )
    # Read-only arrays are another type to numba: a copy is cheaper than another compilation.
    return np.require(array, dtype=np.int64, requirements=["C", "W"])


def check_triple_ids(triples: NDArray[np.int64], num_entities: int, num_relations: int) -> None:
    """Check that triples, shape (n, 3), have ids of a graph.

    :raises InvalidRequestError: if not, naming slot, row and value
    """
    for column, slot in enumerate(("head", "relation", "tail")):
        is_relation = slot == "relation"
        check_ids(
            slot, triples[:, column], num_relations if is_relation else num_entities, is_relation
        )


def check_ids(name: str, ids: NDArray[np.integer], num_ids: int, is_relation: bool = False) -> None:
    """Check that ids, of any shape that begins with rows, are from 0 to ``num_ids`` - 1.

    :param name: of the array or slot
    :raises InvalidRequestError: if not, naming row and value
    """
    wrong = (ids < 0) | (ids >= num_ids)
    if wrong.any():
        place = tuple(np.argwhere(wrong)[0].tolist())
        row, value = str(place[0]), str(ids[place])
        raise InvalidRequestError(
            f"{name} id {value} of row {row} is out of range: there are {num_ids} ids, 0 to "
            f"{num_ids - 1}; check that the ids are those of this graph (num_entities, "
            f"num_relations), and that the columns are head, relation, tail",
            reason="RELATION_ID_OUT_OF_RANGE" if is_relation else "ENTITY_ID_OUT_OF_RANGE",
            metadata={"row": row, "slot": name, "value": value, "limit": str(num_ids)},
        )


def narrowest_dtype(num_ids: int) -> np.dtype[np.unsignedinteger]:
    """Return the narrowest unsigned dtype that holds the ids 0 to ``num_ids`` - 1."""
    return np.min_scalar_type(max(num_ids - 1, 0))


def are_first(values: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Tell for each sorted value whether it is the first of its equals; shape (n,) to (n,)."""
    is_first = np.ones(len(values), dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=is_first[1:])
    return is_first


def sort_unique_triples(triples: NDArray[np.integer]) -> NDArray[np.int64]:
    """Sort triples by first, then second, then third column, and drop repetitions.

    :param triples: ids from 0 to 2^32 - 1, shape (n, 3)
    :return: int64, shape (m, 3), m <= n
    """
    if len(triples) == 0:
        return np.empty((0, 3), dtype=np.int64)
    rows: NDArray[np.int64] = np.ascontiguousarray(triples, dtype=np.int64)
    bits = [max(int(column.max()).bit_length(), 1) for column in rows.T]
    if sum(bits) <= 64:
        # One sort of packed keys is many times faster than sorting rows.
        packed = rows[:, 0].astype(np.uint64)
        for column in (1, 2):
            packed <<= np.uint64(bits[column])
            packed |= rows[:, column].astype(np.uint64)
        # np.unique hashes, which takes many times as long as sorting numbers in place.
        packed.sort()
        packed = packed[are_first(packed)]
        result = np.empty((len(packed), 3), dtype=np.int64)
        for column in (2, 1):
            result[:, column] = packed & np.uint64(2 ** bits[column] - 1)
            packed >>= np.uint64(bits[column])
        result[:, 0] = packed
        return result
    ordered = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
    keep = np.ones(len(ordered), dtype=np.bool_)
    keep[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return ordered[keep]
