r"""The fingerprint: SHA-256 that identifies the id space, the triples and the type constraints.

A split's fingerprint is the SHA-256 of, in this order,

- the ASCII bytes ``negserve split 1\n``,
- number of entities, number of relations, number of triples: each uint64, little-endian,
- the distinct triples, sorted by head, relation, tail: uint32, little-endian, shape (n, 3).

That of type constraints is the SHA-256 of, in this order,

- the ASCII bytes ``negserve types 1\n``,
- number of entities, number of relations, number of head pairs, number of tail pairs: each
  uint64, little-endian,
- the distinct pairs of relation and allowed head, sorted by relation, entity, then those of
  relation and allowed tail likewise: uint32, little-endian, shape (n, 2).

A graph's is the SHA-256 of ``negserve graph 1\n`` followed, for each split that it has, in
the order training, validation, testing, by ``NAME HEXDIGEST\n``; and if it has type
constraints, by ``type_constraints HEXDIGEST\n``.

Labels do not enter, so a trainer that holds only mapped triples can compute it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.errors import InvalidRequestError
from negserve.types.config import SPLITS
from negserve.types.triples import as_triples, check_triple_ids, sort_unique_triples

#: An id travels, and is hashed, in at most 32 bits.
_ID_SPACE = 2**32


def distinct_triples(
    triples: ArrayLike, num_entities: int, num_relations: int
) -> NDArray[np.uint32]:
    """Sort triples by head, relation, tail and drop repetitions.

    :param triples: integer ids, shape (n, 3); a tensor will do
    :return: shape (m, 3), m <= n
    :raises InvalidRequestError: for another shape or dtype, or an id outside the id space
    """
    for name, size in (("num_entities", num_entities), ("num_relations", num_relations)):
        if not 0 <= size <= _ID_SPACE:
            raise InvalidRequestError(f"{name}={size}; give 0 to {_ID_SPACE}")
    rows = as_triples(triples)
    check_triple_ids(rows, num_entities, num_relations)
    return sort_unique_triples(rows).astype(np.uint32)


def split_fingerprint(triples: ArrayLike, num_entities: int, num_relations: int) -> str:
    """Fingerprint one split: equal to a value of ``RemoteTriplesFactory.split_fingerprints``.

    :param triples: integer ids, shape (n, 3), in any order, repetitions allowed
    :return: 64 hexadecimal digits
    :raises InvalidRequestError: for another shape or dtype, or an id outside the id space
    """
    return fingerprint_of_distinct(
        distinct_triples(triples, num_entities, num_relations), num_entities, num_relations
    )


def fingerprint_of_distinct(
    triples: NDArray[np.integer], num_entities: int, num_relations: int
) -> str:
    """Fingerprint one split.

    :param triples: distinct, sorted by head, relation, tail, shape (n, 3)
    :return: 64 hexadecimal digits
    """
    return fingerprint_of_blocks([triples], len(triples), num_entities, num_relations)


def fingerprint_of_blocks(
    blocks: Iterable[NDArray[np.integer]], num_triples: int, num_entities: int, num_relations: int
) -> str:
    """Fingerprint one split whose triples come some at a time.

    :param blocks: distinct triples, sorted over all blocks by head, relation, tail, each shape
        (n, 3)
    :param num_triples: of all blocks
    :return: 64 hexadecimal digits
    """
    digest = hashlib.sha256(b"negserve split 1\n")
    digest.update(np.array([num_entities, num_relations, num_triples], dtype="<u8").tobytes())
    for triples in blocks:
        digest.update(np.ascontiguousarray(triples, dtype="<u4").data)
    return digest.hexdigest()


def types_fingerprint(
    heads: NDArray[np.integer], tails: NDArray[np.integer], num_entities: int, num_relations: int
) -> str:
    """Fingerprint type constraints.

    :param heads: pairs of relation and allowed head, shape (m, 2), sorted and distinct
    :param tails: likewise, allowed tails
    :return: 64 hexadecimal digits
    """
    digest = hashlib.sha256(b"negserve types 1\n")
    sizes = [num_entities, num_relations, len(heads), len(tails)]
    digest.update(np.array(sizes, dtype="<u8").tobytes())
    for pairs in (heads, tails):
        digest.update(np.ascontiguousarray(pairs, dtype="<u4").data)
    return digest.hexdigest()


def graph_fingerprint(
    split_fingerprints: Mapping[str, str], type_constraints_fingerprint: str | None = None
) -> str:
    """Fingerprint a graph: equal to ``RemoteTriplesFactory.fingerprint``.

    :param split_fingerprints: fingerprint by name of split, in any order
    :param type_constraints_fingerprint: that of its type constraints; None for a graph without
    :return: 64 hexadecimal digits
    :raises InvalidRequestError: for a name that is no split
    """
    unknown = sorted(set(split_fingerprints) - set(SPLITS))
    if unknown:
        raise InvalidRequestError(f"no splits: {', '.join(unknown)}; choose from {list(SPLITS)}")
    digest = hashlib.sha256(b"negserve graph 1\n")
    for name in SPLITS:
        if name in split_fingerprints:
            digest.update(f"{name} {split_fingerprints[name]}\n".encode("ascii"))
    if type_constraints_fingerprint is not None:
        digest.update(f"type_constraints {type_constraints_fingerprint}\n".encode("ascii"))
    return digest.hexdigest()
