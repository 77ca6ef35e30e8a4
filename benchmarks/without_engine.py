"""A lower bound for epochs: the server, sending one batch again and again without computing more.

Run as ``python -m benchmarks.without_engine ARGUMENTS``, with the arguments of ``negserve-server``;
only for epochs of whole batches (``tail="drop"``) without workers. What remains is the cost of
streaming: encoding, the event loop, grpc, and reading on the client.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from dataclasses import replace

from negserve_server.cli import main
from negserve_server.graph.epoch import Epoch, EpochBatch

_make = Epoch.batch_in_steps
_made: dict[Epoch, EpochBatch] = {}


def _batch_in_steps(epoch: Epoch, index: int) -> Generator[None, None, EpochBatch]:
    if epoch not in _made:
        _made.clear()
        _made[epoch] = yield from _make(epoch, 0)
    made = _made[epoch]
    # The client also checks the batch's place in the epoch.
    moved = index * epoch.config.batch_size * epoch.config.world_size
    return replace(
        made,
        next_start=made.next_start + moved,
        negatives=replace(made.negatives, position=made.negatives.position + moved),
    )


if __name__ == "__main__":
    Epoch.batch_in_steps = _batch_in_steps  # type: ignore[assignment, method-assign]
    main(sys.argv[1:])
