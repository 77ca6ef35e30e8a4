"""Candidates of queries: the other answers that a true one is ranked against."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negserve.types.config import SLOTS, Slot


@dataclass(frozen=True, eq=False)
class CandidateBatch:
    """Candidates of m queries: consecutive triples, with one slot asked for.

    :ivar row: row of the first triple in the set
    :ivar side: the slot that is asked for; its id in ``positives`` is the true answer
    :ivar positives: int64, shape (m, 3)
    :ivar candidates: ids to rank the true one against, shape (m, n), uint8, uint16 or uint32
    :ivar mask: bool, shape (m, n), True where a candidate counts
    """

    row: int
    side: Slot
    positives: NDArray[np.int64]
    candidates: NDArray[np.unsignedinteger]
    mask: NDArray[np.bool_]

    def __len__(self) -> int:
        """Count the queries."""
        return len(self.positives)

    @property
    def targets(self) -> NDArray[np.int64]:
        """The true answers, shape (m,)."""
        return self.positives[:, SLOTS.index(self.side)]

    def triples(self) -> NDArray[np.int64]:
        """Rebuild the candidates as whole triples, shape (m, n, 3)."""
        triples = np.repeat(self.positives[:, None, :], self.candidates.shape[1], axis=1)
        triples[:, :, SLOTS.index(self.side)] = self.candidates
        return triples


class CandidateDigest:
    r"""SHA-256 of candidates, whatever their batches.

    It is that of the ASCII bytes ``negserve candidates 1\n`` and then, side after side and row
    after row, of the triple and of the n candidates (ids as uint32, little-endian) and of the n
    values of the mask (a byte each, 1 where the candidate counts).
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256(b"negserve candidates 1\n")

    def add(self, batch: CandidateBatch) -> None:
        """Add the next batch."""
        n = batch.candidates.shape[1]
        row = np.empty(len(batch), dtype=[("ids", "<u4", (3 + n,)), ("mask", "u1", (n,))])
        row["ids"][:, :3], row["ids"][:, 3:] = batch.positives, batch.candidates
        row["mask"] = batch.mask
        self._digest.update(row.tobytes())

    def hexdigest(self) -> str:
        """Return the digest of what was added, 64 hexadecimal digits."""
        return self._digest.hexdigest()


@dataclass(frozen=True, eq=False)
class CandidateTable:
    """All candidates of some triples, in memory.

    :ivar positives: int64, shape (m, 3)
    :ivar candidates: by side, shape (m, n) each
    :ivar masks: by side, bool, shape (m, n), True where a candidate counts
    """

    positives: NDArray[np.int64]
    candidates: Mapping[Slot, NDArray[np.unsignedinteger[Any]]]
    masks: Mapping[Slot, NDArray[np.bool_]]

    def batches(self, batch_size: int = 1024) -> Iterator[CandidateBatch]:
        """Iterate over the queries: all of the first side, then all of the next.

        :param batch_size: most queries of a batch
        """
        for side in SLOTS:
            if side in self.candidates:
                for start in range(0, len(self.positives), batch_size):
                    at = slice(start, start + batch_size)
                    yield CandidateBatch(
                        start,
                        side,
                        self.positives[at],
                        self.candidates[side][at],
                        self.masks[side][at],
                    )

    def num_saturated(self) -> dict[Slot, int]:
        """Count, by side, the queries with a masked candidate."""
        return {side: int((~mask.all(axis=1)).sum()) for side, mask in self.masks.items()}

    def digest(self) -> str:
        """Return the digest that a manifest states, 64 hexadecimal digits."""
        digest = CandidateDigest()
        for batch in self.batches():
            digest.add(batch)
        return digest.hexdigest()
