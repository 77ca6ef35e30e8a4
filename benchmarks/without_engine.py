"""A floor for epochs: the server, but with one batch that is made once and sent again and again.

Run as ``python -m benchmarks.without_engine ARGUMENTS``, those of ``negserve-server``. What is left
is what streams cost: encoding, the event loop, grpc, and reading on the client.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from negserve_server.cli import main
from negserve_server.graph.epoch import Epoch, EpochBatch

_make = Epoch.batch
_made: dict[Epoch, EpochBatch] = {}


def _batch(epoch: Epoch, index: int) -> EpochBatch:
    if epoch not in _made:
        _made.clear()
        _made[epoch] = _make(epoch, 0)
    begin = index * epoch.config.batch_size * epoch.config.world_size
    return replace(_made[epoch], next_start=begin)


if __name__ == "__main__":
    Epoch.batch = _batch  # type: ignore[assignment, method-assign]
    main(sys.argv[1:])
