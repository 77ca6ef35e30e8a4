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
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def split_fingerprint(triples: NDArray[np.int64], num_entities: int, num_relations: int) -> str:
    """Fingerprint one split.

    :param triples: distinct, sorted, shape (n, 3)
    :return: 64 hexadecimal digits
    """
    digest = hashlib.sha256(b"negserve split 1\n")
    digest.update(np.array([num_entities, num_relations, len(triples)], dtype="<u8").tobytes())
    digest.update(triples.astype("<u4").tobytes())
    return digest.hexdigest()


def type_constraints_fingerprint(
    heads: NDArray[np.int64], tails: NDArray[np.int64], num_entities: int, num_relations: int
) -> str:
    """Fingerprint type constraints.

    :param heads: pairs of relation and allowed head, distinct, sorted, shape (m, 2)
    :param tails: likewise, allowed tails
    :return: 64 hexadecimal digits
    """
    digest = hashlib.sha256(b"negserve types 1\n")
    sizes = [num_entities, num_relations, len(heads), len(tails)]
    digest.update(np.array(sizes, dtype="<u8").tobytes())
    for pairs in (heads, tails):
        digest.update(pairs.astype("<u4").tobytes())
    return digest.hexdigest()


def graph_fingerprint(
    split_fingerprints: Mapping[str, str], type_constraints: str | None = None
) -> str:
    """Fingerprint a graph.

    :param split_fingerprints: fingerprints of its splits, in their order
    :param type_constraints: fingerprint of its type constraints; None if it has none
    :return: 64 hexadecimal digits
    """
    digest = hashlib.sha256(b"negserve graph 1\n")
    for name, fingerprint in split_fingerprints.items():
        digest.update(f"{name} {fingerprint}\n".encode("ascii"))
    if type_constraints is not None:
        digest.update(f"type_constraints {type_constraints}\n".encode("ascii"))
    return digest.hexdigest()
