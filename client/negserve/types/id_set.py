"""Sets of ids in compact form: entities that may be drawn, relations of an epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.types.checks.invalid import invalid_configuration
from negserve.types.triples import are_first

#: An id is below it.
_ID_SPACE = 2**32


class IdSet(Sequence[int]):
    """Distinct ids in ascending order. Immutable; compares and hashes by a digest.

    :param ids: integers from 0 to 2^32 - 1, at least one, in any order, repetitions allowed
    :raises ValueError: for anything else; its second argument is the id that is out of range, if
        there is one
    """

    __slots__ = ("__weakref__", "_digest", "_ids")

    def __init__(self, ids: ArrayLike) -> None:
        given = np.asarray(ids)
        if given.ndim != 1 or given.size == 0 or not np.issubdtype(given.dtype, np.integer):
            raise ValueError("give ids, at least one")
        # np.unique hashes, which takes many times as long as sorting numbers.
        ordered = np.sort(given)
        if int(ordered[0]) < 0 or int(ordered[-1]) >= _ID_SPACE:
            raise ValueError(
                "give ids from 0 to 2^32 - 1", int(ordered[0] if ordered[0] < 0 else ordered[-1])
            )
        distinct: NDArray[np.uint32] = ordered[are_first(ordered)].astype(np.uint32, copy=False)
        distinct.flags.writeable = False
        self._ids = distinct
        self._digest = hashlib.sha256(distinct.astype("<u4", copy=False).data).digest()

    @classmethod
    def of(cls, ids: ArrayLike) -> IdSet:
        """Return the set of some ids; a set is returned as it is."""
        return ids if isinstance(ids, IdSet) else cls(ids)

    @property
    def ids(self) -> NDArray[np.uint32]:
        """The ids, ascending, shape (n,), read-only."""
        return self._ids

    @property
    def digest(self) -> bytes:
        """What is equal for equal sets only, 32 bytes."""
        return self._digest

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self._ids.nbytes

    def __reduce__(self) -> tuple[type[IdSet], tuple[NDArray[np.uint32]]]:
        """Pickle the ids alone, so that a copy is read-only as well."""
        return IdSet, (self._ids,)

    def __len__(self) -> int:
        """Count the ids."""
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[int, ...]: ...

    def __getitem__(self, index: int | slice) -> int | tuple[int, ...]:
        """Give an id, or some."""
        found = self._ids[index]
        return tuple(found.tolist()) if isinstance(index, slice) else int(found)

    def __iter__(self) -> Iterator[int]:
        """Iterate over the ids as Python's integers."""
        return iter(self._ids.tolist())

    def __eq__(self, other: object) -> bool:
        """Whether both are the same set."""
        return isinstance(other, IdSet) and self._digest == other._digest

    def __hash__(self) -> int:
        """Hash the digest."""
        return hash(self._digest)

    def __repr__(self) -> str:
        """Show the first ids."""
        more = ", ..." if len(self) > 6 else ""
        return f"IdSet([{', '.join(map(str, self[:6]))}{more}], {len(self)} ids)"


def legal_ids(field: str, ids: object, expected: str) -> IdSet:
    """Make the ids of a field of a configuration a set.

    :param ids: integers in any order, as a sequence or an array; a set is returned as it is
    :param expected: what is legal
    :raises InvalidRequestError: for no ids, for what is no integer, or is outside every id space
    """
    if isinstance(ids, IdSet):
        return ids
    try:
        return IdSet(ids)  # type: ignore[arg-type]
    except ValueError as error:
        if len(error.args) == 2:
            raise invalid_configuration(field, error.args[1], "give ids of the graph") from error
        shown = tuple(ids.tolist()) if isinstance(ids, np.ndarray) else ids
        raise invalid_configuration(field, _shortened(shown), expected) from error


def _shortened(values: object) -> str:
    text = repr(values)
    return text if len(text) <= 80 else text[:77] + "..."
