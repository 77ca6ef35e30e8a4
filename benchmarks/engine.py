"""Negatives per second of the engine against PyKEEN, in process, one thread.

Run as ``python -m benchmarks.engine [--json FILE] [--graph NAME] [--without-pykeen]``. All systems
take turns over five repetitions in one run; the table gives median, lowest and highest. PyKEEN's
unit is the proposed negative: with a filter, it returns fewer. Other samplers
(:mod:`benchmarks.measured.other_samplers`) return what they draw, ids or pairs of them. System
``floor`` is not a sampler: it only writes the output, or only generates the random bits.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for ``python benchmarks/engine.py``

from benchmarks.measured import floors, order
from benchmarks.measured.other_samplers import OTHERS, other
from benchmarks.measured.pykeen_samplers import FILTERS, PYKEEN, PyKeen
from benchmarks.measured.samplers_in_process import negserve
from benchmarks.support import goals
from benchmarks.support.graphs import facts_of, fb15k_237, zipf_20m
from benchmarks.support.measuring import SECONDS_PER_REPETITION, Case, Row, measure, show, write
from benchmarks.support.positives import Positives
from negserve_server.graph import TriplesFactory

BATCH_SIZE = 1024
NUM_NEGS_PER_POS = (1, 16, 64, 256, 1000)
KINDS = ("basic", "bernoulli")
GRAPHS = {"fb15k-237": fb15k_237, "zipf-20m": zipf_20m}


def measure_graph(
    name: str, factory: TriplesFactory, seconds: float, with_pykeen: bool
) -> tuple[list[Row], dict[str, float]]:
    """Measure all systems on one graph.

    :param with_pykeen: whether PyKEEN's are among them
    :return: rows, and the seconds that each index took to build
    """
    positives = Positives(factory.mapped_triples, BATCH_SIZE)
    built: dict[str, float] = {}
    for kind in KINDS:
        begin = time.perf_counter()
        factory.open_sampler(kind=kind, filter_splits=("training",))
        built[f"negserve, {kind}, exact"] = time.perf_counter() - begin
    rows: list[Row] = []
    with PyKeen(factory, BATCH_SIZE, KINDS) if with_pykeen else nullcontext() as pykeen:
        for k in NUM_NEGS_PER_POS:
            facts = partial(_facts, name, k)
            cases: list[Case] = []
            for kind in KINDS:
                for mode, splits in (("none", ()), ("exact", ("training",))):
                    ours = negserve(factory, positives, k, kind=kind, filter_splits=splits)
                    cases.append((facts("negserve", kind, mode), ours))
                if pykeen is not None:
                    cases += [
                        (facts(PYKEEN, kind, mode), pykeen.turn(kind, k, mode)) for mode in FILTERS
                    ]
            for system, sampler, mode in OTHERS:
                turn = other(system, factory, positives, k)
                cases.append((facts(system, sampler, mode), turn))
            for floor, bound in (
                ("writing", floors.writing(factory, BATCH_SIZE, k)),
                ("random bits", floors.random_bits(BATCH_SIZE, k)),
            ):
                cases.append((facts("floor", floor, "none"), bound))
            rows += measure(cases, f"{name}, k = {k}", seconds)
    return rows, built | ({} if pykeen is None else pykeen.seconds)


def _facts(graph: str, k: int, system: str, sampler: str, mode: str) -> dict[str, object]:
    return {
        "system": system,
        "sampler": sampler,
        "filter": mode,
        "graph": graph,
        "batch": BATCH_SIZE,
        "k": k,
        "threads": 1,
    }


def main(
    json_path: Path | None = None,
    graph: str = "all",
    seconds: float = SECONDS_PER_REPETITION,
    with_pykeen: bool = True,
) -> None:
    """Measure and report, one graph at a time, so that only one is in memory."""
    rows: list[Row] = []
    orders: list[Row] = []
    graphs: dict[str, object] = {}
    build_seconds: dict[str, object] = {}
    for each in GRAPHS if graph == "all" else [graph]:
        name, factory = GRAPHS[each]()
        graphs[name] = facts_of(factory)
        measured, build_seconds[name] = measure_graph(name, factory, seconds, with_pykeen)
        orders += order.measure_order(name, factory, BATCH_SIZE, seconds)
        del factory
        show(f"engine, {name}", measured)
        rows += measured
    goals.show(goals.check(rows))
    order.show(orders)
    write(
        "engine", rows, json_path,
        seconds_per_repetition=seconds, graphs=graphs, build_seconds=build_seconds, order=orders,
    )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--graph", choices=[*GRAPHS, "all"], default="all", help="graph to measure")
    parser.add_argument(
        "--seconds-per-repetition",
        type=float,
        default=SECONDS_PER_REPETITION,
        help="minimum duration of each of the five repetitions (default: %(default)s)",
    )
    parser.add_argument(
        "--without-pykeen", action="store_true", help="leave PyKEEN out, which takes most time"
    )
    arguments = parser.parse_args()
    main(
        arguments.json, arguments.graph, arguments.seconds_per_repetition,
        not arguments.without_pykeen,
    )  # fmt: skip
