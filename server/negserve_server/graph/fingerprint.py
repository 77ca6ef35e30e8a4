r"""The fingerprint: SHA-256 that identifies the id space and the triples.

A split's fingerprint is the SHA-256 of, in this order,

- the ASCII bytes ``negserve split 1\n``,
- number of entities, number of relations, number of triples: each uint64, little-endian,
- the distinct triples, sorted by head, relation, tail: uint32, little-endian, shape (n, 3).

A graph's is the SHA-256 of ``negserve graph 1\n`` followed, for each split that it has, in
the order training, validation, testing, by ``NAME HEXDIGEST\n``.

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


def graph_fingerprint(split_fingerprints: Mapping[str, str]) -> str:
    """Fingerprint a graph from the fingerprints of its splits, given in their order.

    :return: 64 hexadecimal digits
    """
    digest = hashlib.sha256(b"negserve graph 1\n")
    for name, fingerprint in split_fingerprints.items():
        digest.update(f"{name} {fingerprint}\n".encode("ascii"))
    return digest.hexdigest()
