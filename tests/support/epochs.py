"""An epoch as ranks received it together, and the expected one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from negserve import EpochBatch, SamplerConfig
from negserve_server import graph
from negserve_server.graph import epoch as server_epoch
from negserve_server.sampling import SamplerConfig as ServerSamplerConfig


class Piece(NamedTuple):
    """A batch in terms of the epoch: where it begins, and one row of bytes per positive."""

    position: int
    rows: NDArray[np.uint8]


def piece(batch: EpochBatch | server_epoch.EpochBatch, num_positives: int) -> Piece:
    """Return a batch by its position within its epoch of so many positives."""
    negatives = batch.negatives
    assert negatives.chunk_size == 1, "chunks share rows"
    columns: list[NDArray[np.generic]] = [
        batch.positives.astype("<i8"),
        negatives.replaced.astype("<u4"),
        negatives.head_counts.astype("<u4")[:, None],
        negatives.relation_counts.astype("<u4")[:, None],
    ]
    if negatives.mask is not None:
        columns.append(negatives.mask)
    rows = [np.ascontiguousarray(column).view(np.uint8) for column in columns]
    return Piece(negatives.position % num_positives, np.concatenate(rows, axis=1))


def union_digest(pieces: Iterable[Piece], num_positives: int) -> str:
    """Hash the pieces in order of position, after checking that each position comes once."""
    sha = hashlib.sha256()
    expected = 0
    # An empty batch, of a short tail, lies where the next one begins.
    for position, rows in sorted(pieces, key=lambda piece: (piece.position, len(piece.rows))):
        if len(rows) == 0:
            continue
        assert position == expected, f"position {position} comes where {expected} is due"
        expected += len(rows)
        sha.update(rows.tobytes())
    assert expected == num_positives, f"{expected} positions of {num_positives}"
    return sha.hexdigest()


def undisturbed_digest(of: graph.TriplesFactory, sampler: SamplerConfig, number: int = 0) -> str:
    """Return :func:`union_digest` of a whole epoch, computed in process."""
    epoch = of.epoch(server_config(sampler), server_epoch.EpochConfig(epoch=number, batch_size=512))
    batches = (epoch.batch(index) for index in range(len(epoch)))
    pieces = [piece(batch, epoch.num_positives) for batch in batches]
    return union_digest(pieces, epoch.num_positives)


def server_config(sampler: SamplerConfig) -> ServerSamplerConfig:
    """Return the same configuration as the server's class."""
    return ServerSamplerConfig(**{name: getattr(sampler, name) for name in sampler.__slots__})
