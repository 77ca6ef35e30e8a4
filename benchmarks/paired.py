"""Negatives per second of two checkouts, engine and remote, taking turns: what a change costs.

Run as ``python -m benchmarks.paired --before DIR [--rounds N] [--graph NAME]``. DIR is another
checkout, for example one made by ``git worktree add``. Prints the median of the ratios after /
before of all rounds, with the lowest and the highest. The first run compiles DIR's kernels.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
DATA = REPOSITORY.parent / "shared" / "data"
BATCH_SIZE = 1024
#: Kind, k, and the splits that the filter covers.
CASES = {
    f"{kind} k={k} {'exact' if splits else 'unfiltered'}": (kind, k, splits)
    for kind in ("basic", "bernoulli")
    for k in (1, 64)
    for splits in ((), ("training",))
}
WAYS = ("engine", "sample", "epoch")
_SECONDS = 0.4


def main(before: Path, rounds: int, graph: str) -> None:
    """Measure and print."""
    with ExitStack() as stack:
        children = [stack.enter_context(_child(tree, graph)) for tree in (before, REPOSITORY)]
        for child in children:
            assert child.stdout is not None
            child.stdout.readline()
        print(f"{'':40} {'before, M/s':>12} {'after, M/s':>12} {'median':>8} {'lowest':>8} highest")
        for way in WAYS:
            medians = []
            for case in CASES:
                rates = [
                    _turn(children, f"{way}/{case}", is_reversed=bool(i % 2)) for i in range(rounds)
                ]
                ratios = [after / before for before, after in rates]
                medians.append(statistics.median(ratios))
                both = [statistics.median(column) / 1e6 for column in zip(*rates, strict=True)]
                print(
                    f"{way + ' ' + case:40} {both[0]:12.2f} {both[1]:12.2f} {medians[-1]:8.3f} "
                    f"{min(ratios):8.3f} {max(ratios):.3f}",
                    flush=True,
                )
            print(f"{way + ', mean of the medians':40} {'':25} {statistics.mean(medians):8.3f}")


def _child(tree: Path, graph: str) -> subprocess.Popen[str]:
    path = os.pathsep.join(str(tree / half) for half in ("client", "server"))
    return subprocess.Popen(
        [sys.executable, __file__, "--measure", "--graph", graph],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tree,
        env={**os.environ, "PYTHONPATH": path},
    )


def _turn(
    children: list[subprocess.Popen[str]], case: str, is_reversed: bool
) -> tuple[float, float]:
    """Let both measure a case, in this order or the other one."""
    rates = [0.0, 0.0]
    for i in (1, 0) if is_reversed else (0, 1):
        stdin, stdout = children[i].stdin, children[i].stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{case}\n")
        stdin.flush()
        rates[i] = float(stdout.readline())
    return rates[0], rates[1]


def measure(graph: str) -> None:
    """Measure one checkout, whenever a case is asked for."""
    from negserve import Client, EpochConfig, SamplerConfig
    from negserve_server.graph import TriplesFactory

    factory = TriplesFactory.from_path(DATA / graph)
    positives = factory.mapped_triples[: 64 * BATCH_SIZE]
    batches = [positives[i : i + BATCH_SIZE] for i in range(0, len(positives), BATCH_SIZE)]
    command = [sys.executable, "-m", "negserve_server.cli", "serve", "--log-level", "error"]
    command += ["--listen", "127.0.0.1:0", "--dataset", f"graph={DATA / graph}"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
        Client(str(server.stdout and server.stdout.readline()).split()[-1]) as client,
    ):
        remote = client.triples_factory("graph")
        turns: dict[str, Callable[[], object]] = {}
        for name, (kind, k, splits) in CASES.items():
            options: dict[str, Any] = {
                "kind": kind, "num_negs_per_pos": k, "filter_splits": splits
            }  # fmt: skip
            for way, source in (("engine", factory), ("sample", remote)):
                turns[f"{way}/{name}"] = _calls(source.open_sampler(**options), batches)
            stream = remote.epochs(SamplerConfig(**options), EpochConfig(batch_size=BATCH_SIZE))
            turns[f"epoch/{name}"] = _batches(stream)
        for turn in turns.values():
            turn()
        print("ready", flush=True)
        for line in sys.stdin:
            name = line.strip()
            k = CASES[name.split("/")[1]][1]
            print(_rate(turns[name]) * BATCH_SIZE * k, flush=True)
        server.kill()


def _calls(sampler: Any, batches: list[Any]) -> Callable[[], object]:
    i = 0

    def turn() -> object:
        nonlocal i
        i += 1
        return sampler.sample(batches[i % len(batches)], i * BATCH_SIZE)

    return turn


def _batches(stream: Any) -> Callable[[], object]:
    source = iter(stream)

    def turn() -> object:
        nonlocal source
        for batch in source:
            return batch
        source = iter(stream)
        return next(source)

    return turn


def _rate(turn: Callable[[], object]) -> float:
    """Count calls a second; those that warm caches up, and fill queues, are not counted."""
    end = time.perf_counter() + _SECONDS / 4
    while time.perf_counter() < end:
        turn()
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < _SECONDS:
        turn()
        count += 1
    return count / (time.perf_counter() - begin)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--graph", default="fb15k-237")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.graph)
    else:
        main(given.before, given.rounds, given.graph)
