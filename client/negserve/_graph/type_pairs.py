"""The entities that relations allow as heads and tails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negserve.errors import InvalidRequestError


@dataclass(frozen=True, slots=True, eq=False)
class TypePairs:
    """Type constraints of a caller's graph.

    :ivar heads: distinct pairs of relation and allowed head, sorted, shape (m, 2)
    :ivar tails: distinct pairs of relation and allowed tail, sorted, shape (m, 2)
    """

    heads: NDArray[np.uint32]
    tails: NDArray[np.uint32]

    @classmethod
    def of(cls, given: Any, num_entities: int, num_relations: int) -> TypePairs | None:
        """Read pairs from a mapping by ``head`` and ``tail``, or from ``heads`` and ``tails``.

        :raises InvalidRequestError: for another shape or dtype, ids outside the id space, or
            neither heads nor tails
        """
        if given is None:
            return None
        if isinstance(given, Mapping) and set(given) <= {"head", "tail"}:
            slots = given.get("head", ()), given.get("tail", ())
        elif hasattr(given, "heads") and hasattr(given, "tails"):
            slots = given.heads, given.tails
        else:
            raise InvalidRequestError(
                f"type_constraints are a {type(given).__qualname__}; give a mapping from head and "
                f"tail to pairs of relation and allowed entity, shape (m, 2)"
            )
        heads, tails = (
            _pairs(slot, pairs, num_entities, num_relations)
            for slot, pairs in zip(("head", "tail"), slots, strict=True)
        )
        if len(heads) == len(tails) == 0:
            raise InvalidRequestError("type_constraints hold no pairs; leave them out")
        return cls(heads, tails)


def _pairs(slot: str, given: Any, num_entities: int, num_relations: int) -> NDArray[np.uint32]:
    """Check pairs, sort them and drop repetitions."""
    pairs = np.asarray(given.cpu() if hasattr(given, "cpu") else given)
    if pairs.size == 0:
        return np.empty((0, 2), dtype=np.uint32)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer):
        raise InvalidRequestError(
            f"type_constraints of {slot}s have shape {pairs.shape} and dtype {pairs.dtype}; give "
            f"integer ids, (m, 2): relation, entity",
            reason="SHAPE_MISMATCH",
        )
    for column, name, size in ((0, "relation", num_relations), (1, "entity", num_entities)):
        ids = pairs[:, column]
        wrong = (ids < 0) | (ids >= size)
        if wrong.any():
            row = int(wrong.argmax())
            raise InvalidRequestError(
                f"{name} id {ids[row]} of row {row} of the type constraints of {slot}s is out of "
                f"range: there are {size} ids, 0 to {size - 1}",
                reason=f"{name.upper()}_ID_OUT_OF_RANGE",
                metadata={
                    "row": str(row),
                    "slot": "relation" if name == "relation" else slot,
                    "value": str(ids[row]),
                    "limit": str(size),
                },
            )
    keys = np.unique(pairs[:, 0].astype(np.uint64) << np.uint64(32) | pairs[:, 1].astype(np.uint64))
    return np.stack([keys >> np.uint64(32), keys & np.uint64(2**32 - 1)], axis=1).astype(np.uint32)
