"""Filters of an evaluation: the known values of all test queries, as index tensors.

Run as ``python -m benchmarks.evaluation [--quick] [--json FILE]``. Nothing is scored: a query costs
what its filter costs. The server is a separate process on loopback; all systems take turns over
five repetitions in one run. PyKEEN compares each batch with all triples, so a part of its batches
stands for all, and so does a part of the queries of ``Contains``, which asks for every candidate.
10,000 queries of the graph of 20 M triples follow, unless ``--quick`` leaves them out.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import torch
from numpy.typing import NDArray
from pykeen.evaluation.evaluator import create_sparse_positive_filter_
from rich.progress import track

from benchmarks.remote import SERVE, running
from benchmarks.support.graphs import fb15k_237, zipf_20m
from benchmarks.support.measuring import REPETITIONS, Row, console, show, write
from negserve import Client
from negserve._protocol.known_pipeline import KnownPipeline
from negserve._protocol.pipelines import RequestPipeline
from negserve.sampling import TriplesFactory
from negserve.types.config import Slot
from negserve.v1 import sampler_pb2 as pb
from negserve_server.graph import TriplesFactory as LocalTriplesFactory
from negserve_server.graph.snapshot.snapshot_writer import write_snapshot

_BATCH = 1024
#: Of PyKEEN: 2,048 x 310,000 comparisons take a gigabyte.
_PYKEEN_BATCH = 128
#: Every how manyth batch stands for all.
_PYKEEN_PART, _CONTAINS_PART = 16, 400
_SIDES: tuple[tuple[Slot, tuple[int, int]], ...] = (("head", (1, 2)), ("tail", (0, 1)))
_PAIRS = {slot: list(columns) for slot, columns in _SIDES}


def known(factory: TriplesFactory, triples: NDArray[np.int64], splits: Sequence[str]) -> int:
    """Make the index tensors of both sides, batch by batch; return the number of values."""
    count = 0
    for begin in range(0, len(triples), _BATCH):
        batch = triples[begin : begin + _BATCH]
        for slot, columns in _PAIRS.items():
            values = factory.known(batch[:, columns], slot, splits)
            rows = torch.from_numpy(values.rows())
            columns_of_scores = torch.from_numpy(values.values.astype(np.int64))
            assert rows.shape == columns_of_scores.shape
            count += len(rows)
    return count


def by_pykeen(triples: torch.Tensor, all_triples: torch.Tensor) -> int:
    """Make PyKEEN's index tensors of a part of the batches; return the number of values, scaled."""
    count = 0
    for batch in torch.split(triples, _PYKEEN_BATCH)[::_PYKEEN_PART]:
        relations = None
        for column in (0, 2):
            values, relations = create_sparse_positive_filter_(
                batch, all_triples, relation_filter=relations, filter_col=column
            )
            count += len(values)
    return count


def by_contains(factory: TriplesFactory, triples: NDArray[np.int64], splits: Sequence[str]) -> int:
    """Ask for every candidate of a part of the queries."""
    count = 0
    candidates = np.arange(factory.num_entities)
    for triple in triples[::_CONTAINS_PART]:
        for column in (0, 2):
            rows = np.tile(triple, (len(candidates), 1))
            rows[:, column] = candidates
            count += int(np.count_nonzero(factory.contains(rows, splits)))
    return count


def bytes_on_the_wire(target: str, remote: Any, triples: NDArray[np.int64], splits: Any) -> float:
    """Count the bytes of all messages of the filters, in both directions, per query."""
    count = 0

    def sized(message: Any) -> bytes:
        nonlocal count
        data: bytes = message.SerializeToString()
        count += len(data)
        return data

    def parsed(data: bytes) -> pb.KnownResponse:
        nonlocal count
        count += len(data)
        return pb.KnownResponse.FromString(data)

    with grpc.insecure_channel(target) as channel:
        stream = channel.stream_stream("/negserve.v1.SamplerService/Known", sized, parsed)
        for begin in range(0, len(triples), _BATCH):
            for slot, columns in _PAIRS.items():
                pairs = triples[begin : begin + _BATCH, columns]
                pipeline: RequestPipeline[Any, Any, Any]
                pipeline = KnownPipeline(remote._dataset, pairs, slot, splits)
                requests = [pipeline.configuration, *pipeline.start()]
                for answer in stream(iter(requests)):
                    assert not pipeline.take(answer)
    return count / (2 * len(triples))


def measured(systems: dict[str, tuple[Callable[[], int], int]], title: str) -> dict[str, Any]:
    """Run the systems in turns; return seconds for all queries by system."""
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for name, (run, _) in systems.items():
        console.print(f"{title}, {name}: {run()} known values")
    order = [name for _ in range(REPETITIONS) for name in systems]
    for name in track(order, description=title, console=console, transient=True):
        run, part = systems[name]
        begin = time.perf_counter()
        run()
        seconds[name].append((time.perf_counter() - begin) * part)
    return seconds


def rows_of(seconds: dict[str, list[float]], num_queries: int, **facts: object) -> Iterator[Row]:
    """Make the rows of a table."""
    for name, values in seconds.items():
        median = statistics.median(values)
        yield {
            "system": name,
            **facts,
            "queries": num_queries,
            "seconds": round(median, 3),
            "least_seconds": round(min(values), 3),
            "most_seconds": round(max(values), 3),
            "us_per_query": round(1e6 * median / num_queries, 2),
        }


def served(graph: LocalTriplesFactory, folder: Path) -> list[str]:
    """Write a snapshot; return the options of a server of it."""
    write_snapshot(graph.parts, folder / "graph", made={})
    return ["negserve_server.cli", *SERVE, "--dataset", f"graph={folder / 'graph'}"]


def main(is_quick: bool, json_path: Path | None = None) -> None:
    """Measure and report."""
    torch.set_num_threads(1)
    name, graph = fb15k_237()
    splits = tuple(graph.columns)
    testing = graph.splits[splits[-1]]
    everything = np.concatenate([graph.splits[split] for split in splits])
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        running(*served(graph, Path(folder))) as target,
        Client(target) as client,
    ):
        remote = client.triples_factory("graph")
        mapped, all_mapped = torch.from_numpy(testing.copy()), torch.from_numpy(everything)
        seconds = measured(
            {
                "negserve, Known": (lambda: known(remote, testing, splits), 1),
                "negserve, in process": (lambda: known(graph, testing, splits), 1),
                "pykeen": (lambda: by_pykeen(mapped, all_mapped), _PYKEEN_PART),
                "negserve, Contains": (
                    lambda: by_contains(remote, testing, splits), _CONTAINS_PART,
                ),
            },
            name,
        )  # fmt: skip
        rows += rows_of(seconds, 2 * len(testing), graph=name, batch=_BATCH)
        wire = round(bytes_on_the_wire(target, remote, testing, splits), 1)
        rows[0]["bytes_per_query"] = wire
        width = np.min_scalar_type(graph.num_entities - 1).itemsize
        rows[3]["bytes_per_query"] = (2 * width + 1) * graph.num_entities
    if not is_quick:
        rows += large()
    show("filters of an evaluation", rows)
    write("evaluation", rows, json_path)


def large() -> list[Row]:
    """Measure 10,000 queries of a large graph with hubs."""
    name, graph = zipf_20m()
    triples = graph.columns["training"].rows(slice(0, None, len(graph.columns["training"]) // 4999))
    triples = triples[:5000]
    longest = max(
        int(graph.known(triples[:, columns], slot, ("training",)).counts.max())
        for slot, columns in _SIDES
    )
    with tempfile.TemporaryDirectory() as folder:
        command = served(graph, Path(folder))
        del graph
        with running(*command) as target, Client(target, timeout=120) as client:
            remote = client.triples_factory("graph")
            seconds = measured(
                {"negserve, Known": (lambda: known(remote, triples, ("training",)), 1)}, name
            )
            found = list(
                rows_of(seconds, 2 * len(triples), graph=name, batch=_BATCH, most_values=longest)
            )
            found[0]["bytes_per_query"] = round(
                bytes_on_the_wire(target, remote, triples, ("training",)), 1
            )
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="no graph of 20 M triples")
    parser.add_argument("--json", type=Path, help="file for the rows")
    arguments = parser.parse_args()
    main(arguments.quick, arguments.json)
