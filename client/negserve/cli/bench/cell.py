"""What is measured at once, and what was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Call: TypeAlias = Literal["Sample", "SampleEpoch"]
CALLS: tuple[Call, ...] = ("Sample", "SampleEpoch")


@dataclass(frozen=True, slots=True)
class Cell:
    """Streams that are measured together.

    :ivar call: ``Sample``: calls of ``sample()``, each after the answer to the one before;
        ``SampleEpoch``: messages of epochs, which the server sends without being asked for each
    :ivar k: negatives per positive
    :ivar batch_size: positives of a call, or of a batch
    :ivar streams: number of streams at once, each with a connection of its own
    """

    call: Call
    k: int
    batch_size: int
    streams: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of a cell; seconds unless stated.

    :ivar mean: time of a call of ``sample()``, or from one message of an epoch to the next
    :ivar p50: its median
    :ivar p99: its 99th percentile
    :ivar calls: number of those times, of all streams together
    :ivar negatives_per_second: of all streams together
    :ivar received: bytes of messages per second, of all streams together
    :ivar sent: likewise
    :ivar slowest_to_fastest: negatives of the slowest stream per negative of the fastest one
    :ivar client_cpu: processor time of this program's processes for one call or message
    :ivar client_load: processors that the busiest of these processes uses; Python hardly uses more
        than one
    :ivar machine_load: share of this machine's processors that anybody uses; None if unknown
    """

    mean: float
    p50: float
    p99: float
    calls: int
    negatives_per_second: float
    received: float
    sent: float
    slowest_to_fastest: float
    client_cpu: float
    client_load: float
    machine_load: float | None


@dataclass(frozen=True, slots=True)
class Network:
    """What the network, with gRPC, allows.

    :ivar round_trip: median time of a call that asks for nothing, ``GetServer``, in seconds
    :ivar round_trip_p99: 99th percentile of it
    :ivar round_trip_cpu: processor time of this process for such a call, in seconds
    :ivar received: bytes per second of a stream of large messages that are cheap for the server
    """

    round_trip: float
    round_trip_p99: float
    round_trip_cpu: float
    received: float
