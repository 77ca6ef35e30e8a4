"""What the server's work costs, as measured by ``benchmarks/sizing.py``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal, get_args

#: How a trainer gets its negatives: epochs that the server orders, or batches of its own.
Call = Literal["epoch", "sample"]
CALLS: tuple[Call, ...] = get_args(Call)


@dataclass(frozen=True, slots=True)
class CallCosts:
    """Processor time of the server for a batch, in seconds.

    One negative per positive is drawn by a kernel of its own, so it has a cost of its own.

    :ivar per_batch: of each
    :ivar per_pair: of each positive with its one negative, k = 1, by kind of sampler, filtered
    :ivar per_positive: of each positive, k > 1, without its negatives, likewise
    :ivar per_negative: of each negative, k > 1, likewise
    :ivar loop: of each batch on the event loop, of which a process has one: the inverse of the
        rate of small batches of one process
    :ivar per_stream: of opening and ending a stream
    """

    per_batch: float
    per_pair: Mapping[str, float]
    per_positive: Mapping[str, float]
    per_negative: Mapping[str, float]
    loop: float
    per_stream: float

    def of_batch(self, kind: str, batch_size: int, num_negs_per_pos: int) -> float:
        """Return the processor time of a batch, in seconds."""
        if num_negs_per_pos == 1:
            return self.per_batch + batch_size * self.per_pair[kind]
        per_positive = self.per_positive[kind] + num_negs_per_pos * self.per_negative[kind]
        return self.per_batch + batch_size * per_positive


@dataclass(frozen=True, slots=True)
class MemoryCosts:
    """Memory of the server, in bytes.

    :ivar process: of one that serves a tiny graph
    :ivar worker: of each further worker
    :ivar per_stream: of an open stream, without its answers
    """

    process: int
    worker: int
    per_stream: int


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured.

    :ivar machine: where
    :ivar calls: by how a trainer gets its negatives
    :ivar memory: of a replica
    """

    machine: str
    calls: Mapping[Call, CallCosts]
    memory: MemoryCosts

    @classmethod
    def measured(cls) -> Costs:
        """Return the costs that belong to this release."""
        content = json.loads((files(__package__) / "costs.json").read_text(encoding="utf-8"))
        return cls(
            content["machine"],
            {call: CallCosts(**content["calls"][call]) for call in CALLS},
            MemoryCosts(**content["memory"]),
        )
