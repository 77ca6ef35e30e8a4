"""What the server's work costs, as measured by ``benchmarks/sizing.py``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal, get_args

#: How a trainer gets its negatives: epochs that the server orders, or batches of its own.
Call = Literal["epoch", "sample"]
CALLS: tuple[Call, ...] = get_args(Call)


@dataclass(frozen=True, slots=True)
class DrawCosts:
    """Processor time of drawing from one graph, in seconds, by kind of sampler, filtered.

    One negative per positive is drawn by a kernel of its own, so it has a cost of its own.

    :ivar per_pair: of each positive with its one negative, k = 1
    :ivar per_positive: of each positive, k > 1, without its negatives
    :ivar per_negative: of each negative, k > 1
    """

    per_pair: Mapping[str, float]
    per_positive: Mapping[str, float]
    per_negative: Mapping[str, float]

    def of_positive(self, kind: str, num_negs_per_pos: int) -> float:
        """Return the processor time of a positive with its negatives, in seconds."""
        if num_negs_per_pos == 1:
            return self.per_pair[kind]
        return self.per_positive[kind] + num_negs_per_pos * self.per_negative[kind]


@dataclass(frozen=True, slots=True)
class CallCosts:
    """Processor time of the server for a call, in seconds.

    :ivar per_batch: of each batch, whatever the graph
    :ivar small: of drawing from the smaller graph that was measured
    :ivar large: of drawing from the larger one
    :ivar loop: of each batch on the event loop, of which a process has one: the inverse of the
        rate of small batches of one process
    :ivar per_stream: of opening and ending a stream
    """

    per_batch: float
    small: DrawCosts
    large: DrawCosts
    loop: float
    per_stream: float


@dataclass(frozen=True, slots=True)
class MemoryCosts:
    """Memory of the server, in bytes.

    :ivar process: of one that serves batches of a tiny graph
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
    :ivar small_bytes: memory of the smaller of the two graphs
    :ivar large_bytes: memory of the larger one
    :ivar calls: by how a trainer gets its negatives
    :ivar memory: of a replica
    """

    machine: str
    small_bytes: float
    large_bytes: float
    calls: Mapping[Call, CallCosts]
    memory: MemoryCosts

    @classmethod
    def measured(cls) -> Costs:
        """Return the costs that belong to this release."""
        return cls.decode(json.loads((files(__package__) / "costs.json").read_text("utf-8")))

    @classmethod
    def decode(cls, content: Mapping[str, Any]) -> Costs:
        """Take costs from the content of their file."""
        calls: dict[Call, CallCosts] = {}
        for call in CALLS:
            draws = {size: DrawCosts(**content["calls"][call][size]) for size in ("small", "large")}
            calls[call] = CallCosts(**{**content["calls"][call], **draws})
        memory = MemoryCosts(**content["memory"])
        return cls(**{**content, "calls": calls, "memory": memory})

    def share_of_large(self, graph_bytes: float) -> float:
        """Return how near a graph is to the larger one, by the logarithm of its memory.

        A larger graph fits less into each of the processor's caches, whose sizes grow by factors.

        :return: 0 for the smaller graph and all below, 1 for the larger one and all beyond
        """
        share = math.log(graph_bytes / self.small_bytes) / math.log(
            self.large_bytes / self.small_bytes
        )
        return min(1.0, max(0.0, share))

    def of_batch(
        self, call: Call, kind: str, batch_size: int, num_negs_per_pos: int, graph_bytes: float
    ) -> float:
        """Return the processor time of a batch, in seconds.

        :param graph_bytes: memory of the graph
        :raises KeyError: if the costs of the kind were not measured
        """
        costs, share = self.calls[call], self.share_of_large(graph_bytes)
        of_small, of_large = (
            draws.of_positive(kind, num_negs_per_pos) for draws in (costs.small, costs.large)
        )
        return costs.per_batch + batch_size * ((1 - share) * of_small + share * of_large)
