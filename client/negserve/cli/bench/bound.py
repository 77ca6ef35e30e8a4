"""What bounds a measurement: the network, the server, or this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from negserve.cli.bench.cell import Cell, Figures, Network

Bound: TypeAlias = Literal["round trip", "bandwidth", "client", "server"]

#: Least share of the latency that a round trip takes if it bounds.
_ROUND_TRIP = 0.5
#: Least processors that a process of this program uses if it bounds: Python's lock allows one.
_BUSY_PROCESS = 0.85
#: Least share of all processors that are in use if they bound.
_BUSY_MACHINE = 0.95
#: Least share of what the network carried before, if that bounds; it varies by about as much. What
#: carries more than its inverse shows that the network's limit is elsewhere.
_BANDWIDTH = 0.7


def round_trip_share(cell: Cell, figures: Figures, network: Network) -> float | None:
    """Return the share of the latency that a round trip takes; None where nothing waits for one."""
    return min(1.0, network.round_trip / figures.p50) if cell.call == "Sample" else None


def bound_of(cell: Cell, figures: Figures, network: Network) -> Bound:
    """Tell what bounds a measurement.

    The server is what is left: the time that neither the way to it nor this machine takes.
    """
    share = round_trip_share(cell, figures, network)
    if share is not None and share >= _ROUND_TRIP:
        return "round trip"
    if figures.client_load >= _BUSY_PROCESS or (figures.machine_load or 0.0) >= _BUSY_MACHINE:
        return "client"
    if _BANDWIDTH <= figures.received / network.received <= 1 / _BANDWIDTH:
        return "bandwidth"
    if cell.call == "Sample":
        client = max(0.0, figures.client_cpu - network.round_trip_cpu)
        transfer = figures.received * figures.mean / cell.streams / network.received
        server = figures.mean - network.round_trip - transfer - client
        if max(client, transfer) > server:
            return "client" if client >= transfer else "bandwidth"
    return "server"


def conclusions(bounds: Sequence[Bound], network: Network) -> list[str]:
    """Say in sentences what bounds, the most frequent first; empty without measurements."""
    trip, rate = f"{1e3 * network.round_trip:.3g} ms", f"{network.received / 1e6:,.4g} MB/s"
    meanings: dict[Bound, str] = {
        "round trip": f"The round trip bounds {{}}: half of their latency or more is the {trip} "
        "of a call that asks for nothing, so network and gRPC. Send more positives a call, or read "
        "SampleEpoch, which waits for no round trip.",
        "bandwidth": f"The network's bandwidth bounds {{}}: they come close to the {rate} that it "
        "carried where the server had little to do. Fewer negatives, or a machine that is nearer, "
        "help.",
        "client": "This machine bounds {}: its processors are busy with receiving, so neither "
        "network nor server was the limit. Measure from a machine with more of them; where the "
        "server runs on this machine, it needs them, too.",
        "server": "The server bounds {}: neither the network nor this machine takes most of the "
        "time. More processors (serve --threads, --workers) or replicas help.",
    }
    counts = {bound: list(bounds).count(bound) for bound in meanings if bound in bounds}
    return [
        meanings[bound].format(f"{count} of {len(bounds)} measurements")
        for bound, count in sorted(counts.items(), key=lambda item: -item[1])
    ]
