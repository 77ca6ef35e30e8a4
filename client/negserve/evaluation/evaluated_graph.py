"""What an evaluation takes of a graph: triples, splits and the sizes of its id spaces."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import iscoroutinefunction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.errors import InvalidRequestError
from negserve.types.checks.invalid import check_name, invalid_configuration
from negserve.types.config import SLOTS, SPLITS, Slot
from negserve.types.triples import as_triples, check_triple_ids
from negserve.types.triples_factory import TriplesFactory


def triples_to_evaluate(
    graph: TriplesFactory, triples: ArrayLike | None, split: str | None
) -> NDArray[np.int64]:
    """Return the given triples in their order, or those of a split, sorted; shape (n, 3).

    :param triples: integer ids, shape (n, 3); a tensor of any device will do
    :param split: in their place, a split of a graph that this process or this machine holds
    :raises InvalidRequestError: unless one of both is given; for another shape, ids outside the
        graph, a split that it has not or whose triples it does not give; and for the graph of an
        asyncio client
    """
    if iscoroutinefunction(graph.known):
        raise InvalidRequestError(
            "the triples factory is one for asyncio, and an evaluation blocks; take it from "
            "negserve.Client"
        )
    if (triples is None) == (split is None):
        raise invalid_configuration("split", split, "give either a split or triples")
    if triples is None:
        assert split is not None
        return as_triples(_triples_of(graph, split))
    rows = as_triples(as_array("triples", triples))
    check_triple_ids(rows, graph.num_entities, graph.num_relations)
    return rows


def splits_to_filter(graph: TriplesFactory, splits: Sequence[str] | None) -> tuple[str, ...]:
    """Return the splits that are named; all of the graph, where None is given.

    :raises InvalidRequestError: for a split that the graph has not
    """
    names = _splits_of(graph)
    if splits is None:
        return names
    if isinstance(splits, str):
        raise invalid_configuration("splits", splits, f"give a sequence: ({splits!r},)")
    for split in splits:
        check_name("splits", split, names)
    return tuple(splits)


def num_ids_of(graph: TriplesFactory, slot: Slot) -> int:
    """Return the size of the id space of a slot."""
    return graph.num_relations if slot == "relation" else graph.num_entities


def kept_columns(slot: Slot) -> list[int]:
    """Return the columns of the ids that a query gives."""
    return [column for column, each in enumerate(SLOTS) if each != slot]


def as_array(name: str, values: Any) -> NDArray[Any]:
    """Make an array of what is given: tensors of another device, or with gradients, too.

    :param name: of what is given, for the error
    :raises InvalidRequestError: for rows of different lengths
    """
    try:
        return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    except ValueError as error:
        raise InvalidRequestError(f"{name} is no array: {error}") from error


def _splits_of(graph: TriplesFactory) -> tuple[str, ...]:
    return tuple(name for name in SPLITS if name in graph.split_fingerprints)


def _triples_of(graph: TriplesFactory, split: str) -> ArrayLike:
    check_name("split", split, _splits_of(graph))
    held = getattr(graph, "splits", None)
    if held is None:
        raise invalid_configuration(
            "split",
            split,
            "a server does not give the triples of a split; give them as an array, or open the "
            "dataset with compute='client', which downloads its snapshot",
        )
    triples: ArrayLike = held[split]
    return triples
