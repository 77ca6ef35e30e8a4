"""How the engine's cost per negative grows with k, batch, graph, known values, options, threads.

Run as ``python -m benchmarks.curves [--json FILE] [--quick]``. The points of a curve take turns
over five repetitions in one run. Unless a row says otherwise: Bernoulli, batch 1024, k = 64, one
thread, FB15k-237.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

if not __package__:
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for ``python benchmarks/curves.py``

from benchmarks.measured import floors
from benchmarks.measured.samplers_in_process import negserve, negserve_threads
from benchmarks.support.graphs import (
    facts_of,
    fb15k_237,
    from_data,
    with_known_tails,
    zipf_1m,
    zipf_20m,
)
from benchmarks.support.measuring import (
    SECONDS_PER_REPETITION,
    Case,
    Row,
    Turn,
    measure,
    show,
    write,
)
from benchmarks.support.positives import Positives
from negserve_server.graph import TriplesFactory

BATCH_SIZE = 1024
K = 64
NUM_NEGS_PER_POS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
BATCH_SIZES = (1, 16, 256, 1024, 16384)
SMALL_GRAPHS = ("umls", "codex-s", "wn18rr")
KNOWN_TAILS = (0, 1, 4, 16, 17, 64, 256, 1_000, 10_000, 100_000)
KNOWN_TAILS_ENTITIES = 4_600_000
THREADS = (1, 2)
MODES: tuple[tuple[str, tuple[str, ...]], ...] = (("none", ()), ("exact", ("training",)))

#: Sampler options by name; the default is exactly filtered Bernoulli.
OPTIONS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("bernoulli, exact filter", {}),
    ("no filter", {"filter_splits": ()}),
    ("filter_mode mask", {"filter_mode": "mask"}),
    ("kind basic", {"kind": "basic"}),
    (
        "kind basic, all three slots",
        {"kind": "basic", "corruption_scheme": ("head", "relation", "tail")},
    ),
    ("kind pseudotyped", {"kind": "pseudotyped"}),
    ("kind typed", {"kind": "typed"}),
    ("kind degree", {"kind": "degree"}),
    ("kind degree, no filter", {"kind": "degree", "filter_splits": ()}),
    (
        "mixture of 3 bernoulli, 1 pseudotyped",
        {"kind": "mixture", "mixture": (("bernoulli", 3), ("pseudotyped", 1))},
    ),
    ("candidates: every second entity", {"candidates": ...}),
    ("distinct", {"distinct": True}),
    ("chunk_size 64, filter_mode mask", {"chunk_size": 64, "filter_mode": "mask"}),
    ("chunk_size 64, no filter", {"chunk_size": 64, "filter_splits": ()}),
    ("log_q", {"log_q": True}),
    ("log_q, kind degree", {"log_q": True, "kind": "degree"}),
)


def case(
    curve: str,
    graph: str,
    turn: Turn | str,
    *,
    system: str = "negserve",
    sampler: str = "bernoulli",
    mode: str = "exact",
    batch: int = BATCH_SIZE,
    k: int = K,
    threads: int = 1,
    **facts: object,
) -> Case:
    """Describe a case: facts as in :mod:`.engine`'s rows, the curve, and the varied value."""
    return {
        "curve": curve, "system": system, "sampler": sampler, "filter": mode, "graph": graph,
        "batch": batch, "k": k, "threads": threads, **facts,
    }, turn  # fmt: skip


def by_k(name: str, factory: TriplesFactory) -> Iterator[Case]:
    """Vary the number of negatives per positive; includes the floors."""
    positives = Positives(factory.mapped_triples, BATCH_SIZE)
    for k in NUM_NEGS_PER_POS:
        for mode, splits in MODES:
            turn = negserve(factory, positives, k, kind="bernoulli", filter_splits=splits)
            yield case("k", name, turn, mode=mode, k=k)
        for floor, turn in (
            ("writing", floors.writing(factory, BATCH_SIZE, k)),
            ("random bits", floors.random_bits(BATCH_SIZE, k)),
        ):
            yield case("k", name, turn, system="floor", sampler=floor, mode="none", k=k)


def by_batch(name: str, factory: TriplesFactory) -> Iterator[Case]:
    """Vary the number of positives per call."""
    for batch in BATCH_SIZES:
        positives = Positives(factory.mapped_triples, batch)
        for k in (1, K):
            for mode, splits in MODES:
                turn = negserve(factory, positives, k, kind="bernoulli", filter_splits=splits)
                yield case("batch", name, turn, mode=mode, batch=batch, k=k)


def by_graph(graphs: Mapping[str, TriplesFactory | str]) -> Iterator[Case]:
    """Vary the graph."""
    for name, factory in graphs.items():
        if isinstance(factory, str):
            yield case("graph", name, factory)
            continue
        positives = Positives(factory.mapped_triples, BATCH_SIZE)
        for k in (1, K):
            for mode, splits in MODES:
                turn = negserve(factory, positives, k, kind="bernoulli", filter_splits=splits)
                yield case("graph", name, turn, mode=mode, k=k)


def by_known_tails() -> Iterator[Case]:
    """Vary the number of known tails, of one pair or of pairs for a million triples."""
    for pairs, num_triples in ((1, 1), (BATCH_SIZE, 2**20)):
        factory, positives = with_known_tails(
            KNOWN_TAILS,
            num_pairs=pairs,
            num_triples=num_triples,
            num_entities=KNOWN_TAILS_ENTITIES,
        )
        for mode, splits in MODES:
            for known, triples in positives.items():
                if mode == "none" and known != 1:
                    continue  # without a filter, known values do not matter
                turn = negserve(
                    factory,
                    Positives(triples, BATCH_SIZE),
                    K,
                    kind="basic",
                    corruption_scheme=("tail",),
                    filter_splits=splits,
                )
                num_pairs = len(set(triples[:, 0].tolist()))
                yield case(
                    "known tails", "synthetic", turn, sampler="basic",
                    mode=mode, known_tails=known, pairs=num_pairs,
                )  # fmt: skip


def by_option(name: str, factory: TriplesFactory) -> Iterator[Case]:
    """Vary the options, one by one."""
    positives = Positives(factory.mapped_triples, BATCH_SIZE)
    for option, changes in OPTIONS:
        options = {"kind": "bernoulli", "filter_splits": ("training",), **changes}
        if "candidates" in options:
            options["candidates"] = tuple(range(0, factory.num_entities, 2))
        mode = options.get("filter_mode", "exact") if options["filter_splits"] else "none"
        turn: Turn | str = f"{name} has no type constraints"
        if options["kind"] != "typed" or factory.type_constraints is not None:
            turn = negserve(factory, positives, K, **options)
        yield case("option", name, turn, sampler=options["kind"], mode=mode, option=option)


def by_threads(name: str, factory: TriplesFactory) -> Iterator[Case]:
    """Let several threads call one sampler at once."""
    positives = Positives(factory.mapped_triples, BATCH_SIZE)
    for k in (1, K, 1000):
        for threads in THREADS:
            turn = negserve_threads(
                factory, positives, k, threads, kind="bernoulli", filter_splits=("training",)
            )
            yield case("threads", name, turn, k=k, threads=threads)


def _graphs(fb15k: tuple[str, TriplesFactory], quick: bool) -> dict[str, TriplesFactory | str]:
    graphs: dict[str, TriplesFactory | str] = {
        name: from_data(name) or "not in NEGSERVE_DATA" for name in SMALL_GRAPHS
    }
    graphs |= dict([fb15k, zipf_1m()])
    graphs |= {"zipf-20m": "left out by --quick"} if quick else dict([zipf_20m()])
    return graphs


def main(
    json_path: Path | None = None, quick: bool = False, seconds: float = SECONDS_PER_REPETITION
) -> None:
    """Measure and report."""
    fb15k = fb15k_237()
    rows: list[Row] = []

    def add(curve: str, cases: Iterator[Case]) -> None:
        measured = measure(list(cases), curve, seconds)
        show(f"curve: {curve}", measured)
        rows.extend(measured)

    add("k", by_k(*fb15k))
    add("batch", by_batch(*fb15k))
    add("option", by_option(*fb15k))
    add("threads", by_threads(*fb15k))
    add("known tails", by_known_tails())
    graphs = _graphs(fb15k, quick)
    add("graph", by_graph(graphs))
    facts = {name: facts_of(each) for name, each in graphs.items() if not isinstance(each, str)}
    write("curves", rows, json_path, seconds_per_repetition=seconds, graphs=facts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--quick", action="store_true", help="leave out the graph of 20 M triples")
    parser.add_argument(
        "--seconds-per-repetition",
        type=float,
        default=SECONDS_PER_REPETITION,
        help="minimum duration of each of the five repetitions (default: %(default)s)",
    )
    arguments = parser.parse_args()
    main(arguments.json, arguments.quick, arguments.seconds_per_repetition)
