"""``negserve-server`` whose embedded graph has 4 million relations, with labels. It logs what holds
its event loop, in seconds of a processor: what else the machine does doesn't count.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

import polars as pl

from negserve_server.cli import main
from negserve_server.graph import TriplesFactory
from negserve_server.graph.vocabulary import Vocabulary
from negserve_server.service.servicer import SamplerServicer
from negserve_server.service.streams.sample_streams import SampleStreams

#: More than a message can name.
NUM_RELATIONS = 4_200_000
#: Begins each line about the event loop.
HELD = "the event loop was held"
#: Of one callback: three times what it takes on a busy machine.
_MOST_SECONDS = 0.08
_world = TriplesFactory.world


def _large_world() -> TriplesFactory:
    world = _world()
    labels = pl.int_range(NUM_RELATIONS, eager=True).cast(pl.String)
    return TriplesFactory(
        {"training": world.mapped_triples},
        num_entities=world.num_entities,
        num_relations=NUM_RELATIONS,
        entities=world.entities,
        relations=Vocabulary(labels),
    )


def _log_long_callbacks() -> None:
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        begin = time.thread_time()
        run(handle)
        seconds = time.thread_time() - begin
        if seconds > _MOST_SECONDS:
            _log(f"for {seconds:.2f} s")

    asyncio.Handle._run = timed  # type: ignore[method-assign]


def _in_threads(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Log calls on the event loop of what takes long with another graph, or another request."""

    def called(*arguments: Any) -> Any:
        if asyncio._get_running_loop() is not None:
            _log(f"by {name}")
        return function(*arguments)

    return called


def _log(what: str) -> None:
    print(HELD, what, file=sys.stderr, flush=True)


def _watch_the_loop() -> None:
    _log_long_callbacks()
    for owner, name in ((SampleStreams, "_configure"), (SamplerServicer, "_open_epoch")):
        function = getattr(owner, name)
        setattr(owner, name, _in_threads(name, function))
    counts = TriplesFactory.relation_counts.fget  # type: ignore[attr-defined]
    counted = property(_in_threads("relation_counts", counts))
    TriplesFactory.relation_counts = counted  # type: ignore[assignment, method-assign]
    TriplesFactory.filter_index = _in_threads(  # type: ignore[method-assign]
        "filter_index", TriplesFactory.filter_index
    )


if __name__ == "__main__":
    _watch_the_loop()
    TriplesFactory.world = staticmethod(_large_world)  # type: ignore[assignment, method-assign]
    main(sys.argv[1:])
