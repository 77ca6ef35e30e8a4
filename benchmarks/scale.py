"""Size of snapshots and of the filter index, and the time to build, start and draw.

    python -m benchmarks.scale [--large] [--json FILE]

Each step runs in a process of its own. FB15k-237 and zipf-20m (20.9 M triples) are built from TSV;
``--large`` adds a graph of the shape of Freebase-86M (338 M triples, 86 M entities, 14,824
relations, ids only), which needs 16 GB of disk, 13 GB of memory and some ten minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.support.graphs import fb15k_237, zipf_20m
from benchmarks.support.measuring import Row, console, write
from negserve_server.graph import TriplesFactory
from negserve_server.graph.snapshot.manifest import read_manifest

_BATCH = 1024
_SECONDS = 2.0
_LARGE = (338_000_000, 86_054_151, 14_824)
#: Runs a command, and prints its processor seconds and its peak of memory in KiB. In a small
#: process: the peak of a process is at least the memory of the one that started it.
_RUN = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""


def write_tsv(path: Path, factory: TriplesFactory) -> None:
    """Write the training triples in random order, with labels as Freebase has them."""
    triples = factory.mapped_triples
    order = np.random.default_rng(0).permutation(len(triples))
    frame = pl.DataFrame(triples[order].astype(np.uint32), schema=["head", "relation", "tail"])
    labels = {"head": "/m/", "relation": "/r/", "tail": "/m/"}
    frame.select(
        (pl.lit(prefix) + pl.col(name).cast(pl.String)).alias(name)
        for name, prefix in labels.items()
    ).write_csv(path, separator="\t", include_header=False)


def write_large(path: Path) -> None:
    """Write ids of a large graph, distributed as :func:`benchmarks.support.graphs.zipf` does."""
    num_triples, num_entities, num_relations = _LARGE
    out = np.lib.format.open_memmap(path, "w+", np.uint32, (num_triples, 3))
    rng = np.random.default_rng(0)

    def draw(size: int, exponent: float, count: int) -> NDArray[np.int64]:
        # Inverse of the continuous power law on [1, size + 1).
        power = 1 - exponent
        values = ((size + 1.0) ** power - 1) * rng.random(count) + 1
        ids: NDArray[np.int64] = np.minimum(values ** (1 / power), size).astype(np.int64) - 1
        return ids

    for first in range(0, num_triples, 2_000_000):
        count = min(2_000_000, num_triples - first)
        # Multiplied, so that ids are not in the order of their frequencies.
        flat = draw(num_entities, 0.5, count) * 2_654_435_761 % num_entities
        hub = draw(num_entities, 1.05, count) * 40_503 % num_entities
        is_from_hub = rng.integers(0, 2, count)
        rows = out[first : first + count]
        rows[:, 0] = np.where(is_from_hub, hub, flat)
        rows[:, 1] = 2 * draw(num_relations // 2, 1.0001, count) + is_from_hub
        rows[:, 2] = np.where(is_from_hub, flat, hub)
    out.flush()


def processor_seconds(command: list[str]) -> tuple[float, float, float]:
    """Run a command to its end: its processor seconds, its seconds, and its peak memory in GiB."""
    begin = time.perf_counter()
    found = subprocess.run(
        [sys.executable, "-c", _RUN, *command], stdout=subprocess.PIPE, check=True, text=True
    )
    used, peak = map(float, found.stdout.split())
    return used, time.perf_counter() - begin, peak / 2**20


def read_by_polars(path: Path) -> None:
    """Read a TSV file and nothing else, as the yardstick of building."""
    pl.read_csv(path, separator="\t", has_header=False, quote_char=None, infer_schema=False)


def seconds_to_serving(options: list[str]) -> float:
    """Seconds from the start of a server until it listens; the best of three."""
    best = float("inf")
    for _ in range(3):
        begin = time.perf_counter()
        with subprocess.Popen(
            ["negserve-server", "serve", "--listen", "127.0.0.1:0", *options],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ) as server:  # fmt: skip
            assert server.stdout is not None
            server.stdout.readline()
            best = min(best, time.perf_counter() - begin)
            server.terminate()
    return best


def memory() -> int:
    """Resident bytes, mapped files included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def draw(path: Path, k: int) -> Row:
    """Draw exact Bernoulli negatives of all training triples, then measure the rate."""
    tiny = TriplesFactory({"training": np.array([[0, 0, 1], [1, 0, 2]])})
    tiny.open_sampler(num_negs_per_pos=k, filter_splits=("training",)).sample([[0, 0, 1]], 0)
    before = memory()
    factory = TriplesFactory.from_path(path)
    sampler = factory.open_sampler(num_negs_per_pos=k, filter_splits=("training",))
    columns, num_triples = factory.columns["training"], factory.num_triples
    for position in range(0, num_triples, 2**16):
        sampler.sample(columns.rows(slice(position, position + 2**16)), position)
    resident = memory() - before
    rng = np.random.default_rng(1)
    batches = [columns.rows(np.sort(rng.integers(0, num_triples, 64 * _BATCH))) for _ in range(8)]
    for batch in batches:
        rng.shuffle(batch)
    done, begin = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < _SECONDS:
        batch = batches[done // 64 % len(batches)]
        first = done % 64 * _BATCH
        sampler.sample(batch[first : first + _BATCH], first)
        done += 1
    return {
        "resident": resident / num_triples,
        "rate": done * _BATCH * k / elapsed,
    }


#: Lines of the printed table: keys of a row, and how their values are written.
_LINES = {
    "triples": "{:,}",
    "entities": "{:,}",
    "index_bytes_per_triple": "{:.1f}",
    "columns_bytes_per_triple": "{:.1f}",
    "all_bytes_per_triple": "{:.1f}",
    "build_cpu_seconds": "{:.1f}",
    "build_over_polars": "{:.1f} x",
    "build_seconds": "{:.1f}",
    "build_peak_gib": "{:.2f}",
    "seconds_to_serving": "{:.2f}",
    "resident_k64": "{:.1f}",
    "million_per_second_k64": "{:.0f}",
    "resident_k1": "{:.1f}",
    "million_per_second_k1": "{:.1f}",
}


def show_sizes(rows: list[Row]) -> None:
    """Print a column for each graph. Resident: bytes a triple, once all were drawn."""
    table = Table("", *(str(row["graph"]) for row in rows), title="scale")
    for key, form in _LINES.items():
        cells = [form.format(row[key]) if key in row else "–" for row in rows]
        table.add_row(key.replace("_", " "), *cells)
    console.print(table)


def measure(name: str, source: Path, folder: Path, ks: tuple[int, ...] = (64, 1)) -> Row:
    """Build a graph, start a server of it, draw from it."""
    out = folder / f"{name}.snapshot"
    used, seconds, peak = processor_seconds(
        ["negserve-server", "build", str(source), "--out", str(out)]
    )
    row: Row = {"graph": name, "build_cpu_seconds": used, "build_seconds": seconds}
    row["build_peak_gib"] = peak
    manifest = read_manifest(out)
    num_triples = manifest.splits["training"].num_triples
    row["triples"], row["entities"] = num_triples, manifest.num_entities
    if source.suffix == ".tsv" and num_triples > 10**6:  # else polars' import takes longest
        polars, _, _ = processor_seconds(
            [sys.executable, "-m", "benchmarks.scale", "--read", str(source)]
        )
        nothing, _, _ = processor_seconds(
            [sys.executable, "-m", "benchmarks.scale", "--read", os.devnull]
        )
        row["build_over_polars"] = used / (polars - nothing)
    sizes = {each: stored.num_bytes for each, stored in manifest.arrays.items()}
    parts: dict[str, Callable[[str], bool]] = {
        "index": lambda each: each.startswith("index."),
        "columns": lambda each: each.startswith("training."),
        "all": lambda _: True,
    }
    for part, is_of in parts.items():
        size = sum(num_bytes for each, num_bytes in sizes.items() if is_of(each))
        row[f"{part}_bytes_per_triple"] = size / num_triples
    serving = seconds_to_serving(["--dataset", f"graph={out}"])
    row["seconds_to_serving"] = serving
    for k in ks:
        found = subprocess.run(
            [sys.executable, "-m", "benchmarks.scale", "--draw", str(out), "--k", str(k)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        drawn = json.loads(found.stdout)
        row[f"resident_k{k}"] = drawn["resident"]
        row[f"million_per_second_k{k}"] = drawn["rate"] / 1e6
    return row


def main(is_large: bool, json_path: Path | None) -> None:
    """Measure all graphs."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for make in (fb15k_237, zipf_20m):
            graph, factory = make()
            source = folder / f"{graph.replace(' ', '-')}.tsv"
            write_tsv(source, factory)
            del factory
            console.print(f"{graph}: building and drawing")
            rows.append(measure(graph, source, folder))
            source.unlink()
        if is_large:
            console.print("a graph of 338 M triples: writing, building and drawing")
            source = folder / "large.npy"
            write_large(source)
            # The hash sets for k = 1 would take more than a quarter of the memory.
            rows.append(measure("freebase-86m-like", source, folder, ks=(64,)))
    show_sizes(rows)
    write("scale", rows, json_path, seconds_to_serving_world=seconds_to_serving([]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", action="store_true", help="measure 338 M triples, too")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--draw", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--k", type=int, default=64, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.draw:
        print(json.dumps(draw(given.draw, given.k)))
    elif given.read and given.read != Path(os.devnull):
        read_by_polars(given.read)
    elif not given.read:
        main(given.large, given.json)
