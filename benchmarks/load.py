"""Many epoch streams at once: their rates, waits and the cost of opening one.

Run as ``python -m benchmarks.load [--base FOLDER] [--rounds N] [--seconds S] [--json FILE]``.
Server and client are a process each on loopback. The client reads all streams in one event loop
(:mod:`benchmarks.measured.stream_client`): by ``negserve.aio``, which rebuilds whole int64 triples,
or by grpcio alone, which drops the bytes. ``--base`` names an older checkout: its server with its
client take turns with those of this one. Figures are medians over rounds.

Three cases: independent streams of one graph; the 256 ranks of one epoch beside 256 independent
streams, on a larger graph, of which each rank has three batches an epoch, one after the other on
the same stream; and streams of one message of few positives, opened one after the other, whose
processor time is that of opening a stream. For comparison grpcio alone opens them, and others of as
many messages at a server that is grpcio alone, too.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.support import goals
from benchmarks.support.children import HERE, answer, busy_seconds, family, started, told
from benchmarks.support.goals import PLAIN
from benchmarks.support.graphs import facts_of, fb15k_237, write_triples, zipf_1m
from benchmarks.support.measuring import Row, console, show, write

K, BATCH_SIZE = 64, 1024
NUM_STREAMS = (1, 4, 16, 64, 256)
WORLD_SIZE = 256
#: Who reads streams, and who opens them; the last one at another server.
_READERS = ("negserve.aio", "grpcio")
_OPENERS = ("negserve", "negserve.aio", "grpcio", PLAIN)
#: About the size of the two messages of such a stream.
_TINY_BYTES = 90
#: Opened streams of a measurement.
_OPENED = 400
#: Streams for which a measurement is as long as asked; it is in proportion for more.
_STREAMS_OF_ONE_DURATION = 128
#: Readers and numbers of streams of an older checkout.
_OF_BASE = ((_READERS[0], 1), (_READERS[0], 256))
_HERE = "this checkout"
#: Facts of all rows, and what they mean.
UNITS = {
    "negatives_per_second": "negatives per second of all streams, rebuilt as int64 triples",
    "slowest_to_fastest": "negatives of the slowest stream per negative of the fastest",
    "p50_ms": (
        "median time from one batch of a stream to the next, and with reader grpcio from one "
        "message, milliseconds"
    ),
    "p99_ms": "99th percentile of that time, milliseconds",
    "fair_share_ms": "mean of that time if all streams shared alike, milliseconds",
    "server_processors": "processors that the server uses",
    "client_processors": "processors that the client uses",
    "server_ms": "processor time of the server for opening and ending a stream, milliseconds",
    "client_ms": "processor time of the client for that, milliseconds",
    "ms": "duration of that, milliseconds",
}


class _Pair:
    """A running server and its client.

    :ivar server: process id of the server
    :ivar plain: process id of the server of grpcio alone
    """

    def __init__(
        self,
        server: subprocess.Popen[str],
        plain: subprocess.Popen[str],
        client: subprocess.Popen[str],
    ) -> None:
        self.server = server.pid
        self.plain = plain.pid
        self._client = client

    def ask(self, do: str, **options: Any) -> dict[str, Any]:
        """Let the client do something."""
        return told(self._client, do=do, **options)

    def answer(self) -> dict[str, Any]:
        """Read the client's next answer."""
        return answer(self._client)

    def busy_seconds(self) -> tuple[float, float]:
        """Return the processor time of server and client."""
        return busy_seconds(family(self.server)), busy_seconds([self._client.pid])


@contextmanager
def _pair(checkout: Path, files: dict[str, Path]) -> Iterator[_Pair]:
    """Run the server and the client of a checkout."""
    datasets = [text for name, file in files.items() for text in ("--dataset", f"{name}={file}")]
    with ExitStack() as stack:
        server = stack.enter_context(
            started(
                checkout, "negserve_server.cli", "serve", "--log-level", "error",
                "--listen", "127.0.0.1:0", *datasets,
            )
        )  # fmt: skip
        plain = stack.enter_context(
            started(checkout, "benchmarks.measured.plain_grpc", str(_TINY_BYTES))
        )
        targets = []
        for process in (server, plain):
            assert process.stdout is not None
            targets.append(process.stdout.readline().split()[-1])
        client = stack.enter_context(
            started(checkout, "benchmarks.measured.stream_client", *targets)
        )
        yield _Pair(server, plain, client)


def _streams(
    pair: _Pair, dataset: str, streams: int, world_size: int, reader: str, seconds: float
) -> dict[str, float]:
    """Measure so many streams, once."""
    pair.ask("open", dataset=dataset, streams=streams, batch_size=BATCH_SIZE, k=K,
             world_size=world_size, reader=reader)  # fmt: skip
    try:
        before, begin = pair.busy_seconds(), time.perf_counter()
        found = pair.ask("measure", seconds=seconds * max(1, streams / _STREAMS_OF_ONE_DURATION))
        after, whole = pair.busy_seconds(), time.perf_counter() - begin
    finally:
        pair.ask("close")
    elapsed, counts = found["elapsed"], found["negatives"]
    return {
        "negatives_per_second": sum(counts) / elapsed,
        "slowest_to_fastest": min(counts) / max(counts),
        "p50_ms": found["p50_ms"],
        "p99_ms": found["p99_ms"],
        "fair_share_ms": found["fair_share_ms"],
        "server_processors": (after[0] - before[0]) / whole,
        "client_processors": (after[1] - before[1]) / whole,
    }


def _opening(pair: _Pair, dataset: str, reader: str) -> dict[str, float]:
    """Measure the opening of streams, once."""
    server = family(pair.plain if reader == PLAIN else pair.server)
    pair.ask("open_tiny", dataset=dataset, number=_OPENED, reader=reader)  # its answer: warm
    before = busy_seconds(server)
    found = pair.answer()
    return {"server_ms": 1e3 * (busy_seconds(server) - before) / _OPENED, **found}


def main(base: Path | None, rounds: int, seconds: float, json_path: Path | None) -> None:
    """Measure and report."""
    name, graph = fb15k_237()
    large_name, large = zipf_1m()
    graphs = {name: facts_of(graph), large_name: facts_of(large)}
    found: dict[tuple[str, str, str, str, int, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        files = {"graph": Path(folder, "graph.tsv"), "large": Path(folder, "large.tsv")}
        for file, each in zip(files.values(), (graph, large), strict=True):
            write_triples(each, file)
        del graph, large
        pairs = {} if base is None else {"base": stack.enter_context(_pair(base, files))}
        pairs[_HERE] = stack.enter_context(_pair(HERE, files))

        def add(
            case: tuple[str, str, str, int, int], checkout: str, figures: dict[str, float]
        ) -> None:
            found.setdefault((checkout, *case), []).append(figures)

        for number in range(rounds):
            with console.status(f"load, round {number + 1} of {rounds}"):
                for reader, streams in product(_READERS, NUM_STREAMS):
                    for checkout, pair in pairs.items():
                        if checkout != _HERE and (reader, streams) not in _OF_BASE:
                            continue
                        figures = _streams(pair, "graph", streams, 1, reader, seconds)
                        add(("streams", name, reader, streams, 1), checkout, figures)
                for streams, world_size in ((1, 1), (WORLD_SIZE, 1), (WORLD_SIZE, WORLD_SIZE)):
                    for checkout, pair in pairs.items():
                        figures = _streams(pair, "large", streams, world_size, _READERS[0], seconds)
                        of = "ranks", large_name, _READERS[0], streams, world_size
                        add(of, checkout, figures)
                for reader in _OPENERS:
                    for checkout, pair in pairs.items():
                        figures = _opening(pair, "graph", reader)
                        add(("opening", name, reader, 1, 1), checkout, figures)
    rows: list[Row] = [
        {
            "case": case, "checkout": checkout, "graph": graph_name, "sampler": "bernoulli",
            "filter": "exact", "reader": reader, "streams": streams, "world_size": world_size,
            **({} if case == "opening" else {"batch": BATCH_SIZE, "k": K}),
            **{key: statistics.median(run[key] for run in runs) for key in runs[0]},
            "repetitions": len(runs),
        }
        for (checkout, case, graph_name, reader, streams, world_size), runs in found.items()
    ]  # fmt: skip
    for case in ("streams", "ranks", "opening"):
        show(f"load, {case}", [row for row in rows if row["case"] == case])
    goals.show(goals.check_load(rows))
    write("load", rows, json_path, seconds=seconds, graphs=graphs, units=UNITS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, help="an older checkout to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0,
                        help="duration of a measurement of up to 128 streams")  # fmt: skip
    parser.add_argument("--json", type=Path, help="file for the rows")
    given = parser.parse_args()
    main(given.base, given.rounds, given.seconds, given.json)
