"""PyKEEN's samplers, in a separate process that takes turns with this one.

With a Python set as its filter, PyKEEN makes a list per negative, which triggers Python's garbage
collector, and that scans all objects of the process. The objects of numba's compiler alone would
cost PyKEEN a third of its speed. In a separate process it runs at its full speed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from benchmarks.support.measuring import Turn, console
from negserve_server.graph import TriplesFactory

PYKEEN = "pykeen 1.11.1"

#: The Python set with the garbage collector switched off; PyKEEN leaves it on.
SET_WITHOUT_GC = "python-set, gc off"
FILTERS = ("none", "bloom", "python-set", SET_WITHOUT_GC)

#: Memory for building a Python set, as measured plus a margin; and the most that may be used.
_SET_BYTES_PER_TRIPLE = 400
_SET_BUDGET = 12 * 2**30


class PyKeen:
    """PyKEEN's samplers of a graph. Samplers and filters are built once for all k.

    :param factory: the graph
    :param kinds: kinds of samplers
    :param filters: those that are built
    :ivar seconds: build times, by what was built
    """

    def __init__(
        self,
        factory: TriplesFactory,
        batch_size: int,
        kinds: tuple[str, ...] = ("basic", "bernoulli"),
        filters: tuple[str, ...] = ("bloom", "python-set"),
    ) -> None:
        self.seconds: dict[str, float] = {}
        self._missing: dict[str, str] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.measured.pykeen_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "triples.npy")
            np.save(path, factory.mapped_triples)
            self._ask(
                path=str(path),
                num_entities=factory.num_entities,
                num_relations=factory.num_relations,
                batch_size=batch_size,
            )
        if reason := _why_no_set(factory.num_triples):
            self._missing = {"python-set": reason, SET_WITHOUT_GC: reason}
        for what in (*kinds, *filters):
            if what not in self._missing:
                with console.status(f"{PYKEEN}: {what}"):
                    seconds = self._ask(do="build", what=what)["seconds"]
                self.seconds[f"{PYKEEN}, {what}"] = seconds
                console.print(f"{PYKEEN}, {what}: built in {seconds:.1f} s")

    def turn(self, kind: str, k: int, filterer: str) -> Turn | str:
        """Return a turn that samples batches, or why that is not possible.

        The unit is the proposed negative: with a filter, fewer are valid.

        :param filterer: one of :data:`FILTERS`
        """
        if filterer in self._missing:
            return self._missing[filterer]
        name = filterer.removesuffix(", gc off")
        return partial(
            self._turn,
            kind=kind,
            k=k,
            filterer=None if name == "none" else name,
            collects=name == filterer,
        )

    def processor_ns(self, kind: str, k: int, filterer: str) -> Turn:
        """Return what samples batches for some seconds: its processor time, ns per negative."""

        def turn(seconds: float) -> float:
            case = {"kind": kind, "k": k, "filterer": None if filterer == "none" else filterer}
            return self._ask(do="turn", seconds=seconds, collects=True, **case)["processor_ns"]

        return turn

    def _turn(self, seconds: float, **case: Any) -> float:
        return self._ask(do="turn", seconds=seconds, **case)["rate"]

    def _ask(self, **request: Any) -> dict[str, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"PyKEEN's process ended with {self._process.wait()}")
        result: dict[str, float] = json.loads(answer)
        return result

    def __enter__(self) -> PyKeen:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()


def _why_no_set(num_triples: int) -> str | None:
    needed, free = _SET_BYTES_PER_TRIPLE * num_triples / 2**30, _available_memory() / 2**30
    if needed <= min(free, _SET_BUDGET / 2**30):
        return None
    return (
        f"a Python set of {num_triples:,} triples takes about {needed:.1f} GiB to build; "
        f"{free:.1f} GiB are available, and the budget is {_SET_BUDGET / 2**30:.0f}"
    )


def _available_memory() -> int:
    meminfo = Path("/proc/meminfo")
    for line in meminfo.read_text().splitlines() if meminfo.exists() else ():
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    return _SET_BUDGET
