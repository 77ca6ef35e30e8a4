"""Replicas, processors, memory and network of a training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from negserve_server.sizing.costs import Call, Costs
from negserve_server.sizing.graph_size import GraphSize, id_bytes

#: Share of a processor and of an event loop that is planned with. Beyond it, queues grow: the mean
#: wait of M/M/1 is u / (1 - u) services (Kleinrock, Queueing Systems I, 1975, eq. 3.26).
BUSY = 0.7
#: What a message has besides ids, in bytes: counts, slots, position, framing.
_MESSAGE_BYTES = 60
_POSITIVE_BYTES = 1.0

Bound = Literal["processors", "event loop", "network"]


@dataclass(frozen=True, slots=True)
class Training:
    """What trainers ask for.

    :ivar ranks: trainers at the same time
    :ivar batch_size: positives of a step of a rank
    :ivar num_negs_per_pos: k
    :ivar steps_per_second: of each rank
    :ivar kind: of sampler
    :ivar call: how ranks get their negatives
    """

    ranks: int
    batch_size: int
    num_negs_per_pos: int
    steps_per_second: float
    kind: str = "bernoulli"
    call: Call = "epoch"

    @property
    def batches_per_second(self) -> float:
        """Batches of all ranks, per second."""
        return self.ranks * self.steps_per_second


@dataclass(frozen=True, slots=True)
class Machine:
    """What a replica runs on.

    :ivar processors: of a replica
    :ivar network_bytes: that it can send per second
    """

    processors: float = 4.0
    network_bytes: float = 1.25e9


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the training needs.

    :ivar seconds_per_batch: processor time of the server
    :ivar bytes_per_batch: that are sent to the trainer
    :ivar processors: busy ones, of all replicas together
    :ivar needed: replicas that bear the load
    :ivar spare: further ones, for those that are replaced or lost
    :ivar workers: processes of a replica, ``--workers``
    :ivar resident_bytes: memory of a replica
    :ivar sent_bytes: of all replicas, per second
    :ivar bound: what the number of replicas follows from
    :ivar most_ranks: ranks that the needed replicas bear before the next one is needed
    """

    seconds_per_batch: float
    bytes_per_batch: float
    processors: float
    needed: int
    spare: int
    workers: int
    resident_bytes: float
    sent_bytes: float
    bound: Bound
    most_ranks: int

    @property
    def replicas(self) -> int:
        """Number of replicas."""
        return self.needed + self.spare


def size_fleet(
    graph: GraphSize, training: Training, machine: Machine, costs: Costs, *, spare: int = 1
) -> Fleet:
    """Compute what a training needs.

    :param spare: replicas beyond those that bear the load
    :raises KeyError: if the costs of the kind were not measured
    """
    call = costs.calls[training.call]
    per_batch = seconds_per_batch(graph, training, costs)
    num_bytes = bytes_per_batch(graph, training)
    # Each worker has one event loop, and a processor of its own for it.
    most_workers = max(1, math.floor(machine.processors))
    demand: dict[Bound, float] = {
        "processors": training.batches_per_second * per_batch / (BUSY * machine.processors),
        "event loop": training.batches_per_second * call.loop / (BUSY * most_workers),
        "network": training.batches_per_second * num_bytes / (BUSY * machine.network_bytes),
    }
    bound = max(demand, key=lambda name: demand[name])
    needed = max(1, math.ceil(demand[bound]))
    of_one = training.batches_per_second / needed
    workers = min(most_workers, max(1, math.ceil(of_one * call.loop / BUSY)))
    streams = math.ceil(training.ranks / needed)
    memory = costs.memory
    resident = (
        memory.process + (workers - 1) * memory.worker + graph.resident_bytes
        + graph.table_bytes(training.kind, training.num_negs_per_pos)
        # An answer is in memory twice, and two of a stream are made ahead.
        + streams * (memory.per_stream + 4 * num_bytes)
    )  # fmt: skip
    return Fleet(
        seconds_per_batch=per_batch,
        bytes_per_batch=num_bytes,
        processors=training.batches_per_second * per_batch,
        needed=needed,
        spare=spare,
        workers=workers,
        resident_bytes=resident,
        sent_bytes=training.batches_per_second * num_bytes,
        bound=bound,
        most_ranks=math.floor(training.ranks * needed / demand[bound]),
    )


def seconds_per_batch(graph: GraphSize, training: Training, costs: Costs) -> float:
    """Return the processor time of a batch, in seconds.

    :raises KeyError: if the costs of the kind were not measured
    """
    return costs.of_batch(
        training.call,
        training.kind,
        training.batch_size,
        training.num_negs_per_pos,
        graph.resident_bytes,
    )


def bytes_per_batch(graph: GraphSize, training: Training) -> float:
    """Return the bytes of a batch on the wire: replaced ids, and an epoch's positives."""
    per_positive = training.num_negs_per_pos * id_bytes(graph.num_entities) + _POSITIVE_BYTES
    if training.call == "epoch":
        per_positive += graph.triple_bytes
    return _MESSAGE_BYTES + training.batch_size * per_positive
