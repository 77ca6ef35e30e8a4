"""A lower bound for epochs: the server, sending the batches of one message again and again.

Run as ``python -m benchmarks.measured.without_engine ARGUMENTS``, with the arguments of
``negserve-server``; only for epochs of whole batches (``tail="drop"``) without workers. What
remains is the cost of streaming: encoding, the event loop, grpc, and reading on the client.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from dataclasses import replace

from negserve_server.cli import main
from negserve_server.graph.epoch import Epoch
from negserve_server.graph.epoch_batches import EpochBatches

#: Messages kept: the usual one and the last one of an epoch, of some epochs.
_MOST_KEPT = 4

_make = Epoch.batches_in_steps
_made: dict[tuple[Epoch, int], EpochBatches] = {}


def _batches_in_steps(epoch: Epoch, indices: range) -> Generator[None, None, EpochBatches]:
    key = epoch, len(indices)
    if key not in _made:
        if len(_made) > _MOST_KEPT:
            _made.clear()
        _made[key] = yield from _make(epoch, range(len(indices)))
    made = _made[key]
    # The client also checks the places of the batches in the epoch.
    moved = indices[0] * epoch.config.batch_size * epoch.config.world_size
    places = [
        place._replace(position=place.position + moved, next_start=place.next_start + moved)
        for place in made.places
    ]
    return replace(made, places=places)


if __name__ == "__main__":
    Epoch.batches_in_steps = _batches_in_steps  # type: ignore[assignment, method-assign]
    main(sys.argv[1:])
