"""How many files a client call runs through, and how the client's modules depend on each other.

Run as ``python -m benchmarks.walk``. A server of the embedded graph runs in a separate process. A
profile function counts, during one call after others of its kind:

- *files*: files of ``client/negserve`` in which a function runs, without generated stubs
- *moves*: calls of a function in another file than that of our calling function; returns, and
  resumed generators and coroutines, do not count

in the caller's thread and in the client's other threads, until the call returns. The second table
counts modules, arrows (imports of a module by another, also for types only; ``__init__`` files are
left out, since they only export names) and floors: a module is one floor above the highest that it
imports. Rooms are the packages, and the modules next to them.
"""

from __future__ import annotations

import ast
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import negserve
from benchmarks.remote import SERVE, running
from negserve import Client, EpochConfig, SamplerConfig

_ROOT = Path(negserve.__file__).parent
_OURS = f"{_ROOT}/"
_GENERATED = f"{_ROOT / 'v1'}/"
_BATCH_SIZE = 32
_OPTIONS: dict[str, Any] = {"num_negs_per_pos": 4, "filter_splits": ("training",), "seed": 1}

Arrow = tuple[str, str]


class Walk:
    """The files that one call ran through.

    :ivar files: our files, by whether the caller's thread ran in them
    :ivar moves: moves between files, by whether the caller's thread made them
    """

    def __init__(self) -> None:
        self.files: dict[bool, set[str]] = {True: set(), False: set()}
        self.moves: dict[bool, Counter[Arrow]] = {True: Counter(), False: Counter()}
        self._is_counting = False
        self._caller = 0
        self._entered: set[FrameType] = set()

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count during the block."""
        self._caller, self._is_counting = threading.get_ident(), True
        try:
            yield
        finally:
            self._is_counting = False

    def profile(self, frame: FrameType, event: str, argument: object) -> None:
        """Record a call; for :func:`sys.setprofile`, in every thread."""
        del argument
        if event != "call" or not self._is_counting or not _is_ours(frame):
            return
        is_caller = threading.get_ident() == self._caller
        here = _name(frame)
        self.files[is_caller].add(here)
        above = frame.f_back
        while above is not None and not _is_ours(above):
            above = above.f_back
        if above is not None and _name(above) != here and frame not in self._entered:
            self.moves[is_caller][_name(above), here] += 1
        self._entered.add(frame)


def _is_ours(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    return name.startswith(_OURS) and not name.startswith(_GENERATED)


def _name(frame: FrameType) -> str:
    return frame.f_code.co_filename.removeprefix(_OURS)


def walk_of(target: str, prepare: Callable[[Client], Callable[[], object]]) -> Walk:
    """Count one call of a new client, so that all its threads are seen.

    :param prepare: makes the calls before it, and returns the call to count
    """
    walk = Walk()
    threading.setprofile(walk.profile)
    sys.setprofile(walk.profile)
    try:
        with Client(target) as client:
            call = prepare(client)
            with walk.counting():
                call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return walk


def sample(client: Client) -> Callable[[], object]:
    """Sample a batch, on a stream that is already open."""
    dataset = client.triples_factory("world")
    (batch, *_) = (
        batch.positives
        for batch in dataset.epochs(SamplerConfig(), EpochConfig(batch_size=_BATCH_SIZE))
    )
    sampler = dataset.open_sampler(**_OPTIONS)
    sampler.sample(batch, 0)
    return lambda: sampler.sample(batch, _BATCH_SIZE)


def contains(client: Client) -> Callable[[], object]:
    """Look triples up with Contains."""
    dataset = client.triples_factory("world")
    splits = ("training",)
    dataset.contains([[0, 0, 1]], splits)
    return lambda: dataset.contains([[0, 0, 1], [1, 0, 2]], splits)


def first_batch(client: Client) -> Callable[[], object]:
    """Take the first and only batch of an epoch, so that none is read ahead."""
    dataset = client.triples_factory("world")
    config = EpochConfig(batch_size=dataset.num_triples)
    stream = dataset.epochs(SamplerConfig(**_OPTIONS), config)
    stream.reads_on = False
    return lambda: next(iter(stream))


def module_files() -> dict[str, Path]:
    """Return the client's modules by full name."""
    return {
        ".".join(("negserve", *path.relative_to(_ROOT).with_suffix("").parts)): path
        for path in _ROOT.rglob("*.py")
        if path.name != "__init__.py" and not f"{path}".startswith(_GENERATED)
    }


def arrows(modules: dict[str, Path]) -> set[Arrow]:
    """Find the imports between modules."""
    found = set()
    for module, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = {f"{node.module}.{alias.name}" for alias in node.names} | {f"{node.module}"}
                found |= {(module, name) for name in names & modules.keys()}
    return found


def rooms(found: set[Arrow]) -> set[Arrow]:
    """Find the imports between rooms."""

    def room(module: str) -> str:
        return ".".join(module.split(".")[:2])

    return {(room(above), room(below)) for above, below in found if room(above) != room(below)}


def floors(found: set[Arrow]) -> int:
    """Count floors; modules that import each other in a circle share a floor."""
    below: dict[str, set[str]] = {}
    for importer, imported in found:
        below.setdefault(importer, set()).add(imported)
    reached = {name: _reached(name, below) for arrow in found for name in arrow}
    heights: dict[str, int] = {}

    def height(name: str) -> int:
        if name not in heights:
            circle = {each for each in reached[name] if name in reached[each]} | {name}
            under = {each for one in circle for each in below.get(one, ())} - circle
            heights[name] = 1 + max(map(height, under), default=0)
        return heights[name]

    return max(map(height, reached), default=0)


def _reached(name: str, below: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    coming = [name]
    while coming:
        new = below.get(coming.pop(), set()) - seen
        seen |= new
        coming += new
    return seen


def main(is_verbose: bool) -> None:
    """Count and print."""
    print(f"{'':24} {'caller':>14} {'other threads':>14} {'all':>14}")
    print(f"{'call':24} {'files moves':>14} {'files moves':>14} {'files moves':>14}")
    with running("negserve_server.cli", *SERVE, "--dataset", "world") as target:
        for call in (sample, contains, first_batch):
            walk = walk_of(target, call)
            files = walk.files[True], walk.files[False], walk.files[True] | walk.files[False]
            moves = [sum(walk.moves[is_caller].values()) for is_caller in (True, False)]
            figures = zip(files, (*moves, sum(moves)), strict=True)
            columns = " ".join(f"{len(names):8} {num_moves:5}" for names, num_moves in figures)
            print(f"{call.__name__:24} {columns}")
            if is_verbose:
                for is_caller, who in ((True, "caller"), (False, "others")):
                    for (above, below), count in walk.moves[is_caller].items():
                        print(f"    {who}: {above} -> {below} {count}")
    modules = module_files()
    found = arrows(modules)
    of_rooms = rooms(found)
    short = sum(len(path.read_text().splitlines()) < 85 for path in modules.values())
    print(f"\n{'':24} {'number':>8} {'arrows':>8} {'floors':>8}")
    print(f"{'modules':24} {len(modules):8} {len(found):8} {floors(found):8}")
    print(f"{'of them under 85 lines':24} {short:8}")
    num_rooms = len({name for arrow in of_rooms for name in arrow})
    print(f"{'rooms':24} {num_rooms:8} {len(of_rooms):8} {floors(of_rooms):8}")


if __name__ == "__main__":
    main("--verbose" in sys.argv[1:])
