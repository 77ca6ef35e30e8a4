"""Whole triples and columns from compact batches, on the CPU, by each way that could do it.

Run as ``python -m benchmarks.expansion [--json FILE] [--candidates]``. The floor fills an array of
the same shape. *Conditional writes* is the definition in numpy without more thought; *torch* is
what devices do. ``--candidates`` adds ways that were not chosen because they compile at first use,
with a compiler of C++ that trainers need not have: ``torch.compile`` and an operator in C++. Slots
of Bernoulli's kind, ids of two bytes, one thread where a row does not say otherwise.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.support.measuring import Case, Row, Turn, console, measure, repeated, show, write
from negserve import CorruptedBatch
from negserve.sampling import expand, expand_columns
from negserve.sampling.expansion import rebuild

SHAPES = ((1024, 64), (128, 64), (1024, 1), (8192, 64))
_NUM_ENTITIES, _NUM_RELATIONS = 14_505, 237
#: Rebuilds something from a batch and its positives.
Way = Callable[[CorruptedBatch, torch.Tensor], object]

_OPERATOR = """
#include <torch/extension.h>
torch::Tensor expand(torch::Tensor positives, torch::Tensor replaced, torch::Tensor head_counts) {
  const int64_t n = replaced.size(0), k = replaced.size(1);
  auto triples = torch::empty({n, k, 3}, positives.options());
  const auto* p = positives.data_ptr<int64_t>();
  const auto* v = reinterpret_cast<const uint16_t*>(replaced.data_ptr<int16_t>());
  const auto* counts = head_counts.data_ptr<uint8_t>();
  auto* out = triples.data_ptr<int64_t>();
  for (int64_t i = 0; i < n; ++i, p += 3, v += k) {
    for (int64_t j = 0; j < counts[i]; ++j, out += 3) {
      out[0] = v[j]; out[1] = p[1]; out[2] = p[2];
    }
    for (int64_t j = counts[i]; j < k; ++j, out += 3) {
      out[0] = p[0]; out[1] = p[1]; out[2] = v[j];
    }
  }
  return triples;
}
"""
#: Prints seconds and megabytes that the first expansion takes of a process that has torch.
_START = """
import sys, time, torch, numpy as np
from negserve.sampling import expand
from benchmarks.expansion import drawn, resident
batch, positives = drawn(2, 2)
before, begin = resident(), time.perf_counter()
expand(batch, positives)
print(time.perf_counter() - begin, resident() - before)
"""


def drawn(n: int, k: int) -> tuple[CorruptedBatch, torch.Tensor]:
    """Draw a batch like those of a graph of the size of FB15k-237."""
    rng = np.random.default_rng(0)
    batch = CorruptedBatch(
        position=0,
        replaced=rng.integers(0, _NUM_ENTITIES, (n, k), dtype=np.uint16),
        head_counts=rng.binomial(k, 0.5, n).astype(np.uint8),
        relation_counts=np.zeros(n, dtype=np.uint8),
        mask=None,
        num_saturated=0,
    )
    sizes = (_NUM_ENTITIES, _NUM_RELATIONS, _NUM_ENTITIES)
    positives = np.stack([rng.integers(0, size, n) for size in sizes], axis=1)
    return batch, torch.from_numpy(positives)


def fill_triples(batch: CorruptedBatch, positives: torch.Tensor) -> NDArray[np.int64]:
    """Fill an array of the shape of the triples."""
    triples = np.empty((len(positives), batch.replaced.shape[1], 3), dtype=np.int64)
    triples.fill(1)
    return triples


def conditional_triples(batch: CorruptedBatch, positives: torch.Tensor) -> NDArray[np.int64]:
    """Write the positives, then the values where they belong."""
    rows, (n, k) = positives.numpy(), batch.replaced.shape
    triples = np.empty((n, k, 3), dtype=np.int64)
    for column in range(3):
        triples[:, :, column] = rows[:, column, None]
    is_head = np.arange(k) < batch.head_counts[:, None]
    np.copyto(triples[:, :, 0], batch.replaced, where=is_head)
    np.copyto(triples[:, :, 2], batch.replaced, where=~is_head)
    return triples


def sliced_columns(batch: CorruptedBatch, positives: torch.Tensor) -> list[NDArray[np.int64]]:
    """Make columns as a model does that has triples."""
    triples = conditional_triples(batch, positives)
    return [np.ascontiguousarray(triples[:, :, column]) for column in range(3)]


def torch_triples(batch: CorruptedBatch, positives: torch.Tensor) -> torch.Tensor:
    """Widen and rebuild as on a device."""
    signed = torch.from_numpy(batch.replaced.view(np.int16)).to(torch.int64)
    counts = torch.from_numpy(batch.head_counts).to(torch.int64)
    return rebuild(
        positives, signed.bitwise_and_(2**16 - 1), counts, None, position=0, chunk_size=1
    )


def compiled_by_torch() -> Way:
    """Rebuild by code that torch generates."""

    @torch.compile(dynamic=True)  # type: ignore[untyped-decorator,unused-ignore]
    def run(
        positives: torch.Tensor, replaced: torch.Tensor, head_counts: torch.Tensor
    ) -> torch.Tensor:
        values = replaced.to(torch.int64).bitwise_and(2**16 - 1)
        is_head = torch.arange(replaced.shape[1]).unsqueeze(0) < head_counts.unsqueeze(1)
        heads, relations, tails = (positives[:, column, None] for column in range(3))
        columns = (
            torch.where(is_head, values, heads),
            relations.expand_as(values),
            torch.where(is_head, tails, values),
        )
        return torch.stack(columns, dim=-1)

    return _narrow(run)


def operator_in_cpp() -> Way:
    """Rebuild by an operator in C++, compiled for this machine."""
    from torch.utils.cpp_extension import load_inline

    module: Any = load_inline(  # type: ignore[no-untyped-call]
        "expand", _OPERATOR, functions=["expand"], extra_cflags=["-O3"]
    )
    return _narrow(module.expand)


def _narrow(function: Callable[..., Any]) -> Way:
    def way(batch: CorruptedBatch, positives: torch.Tensor) -> object:
        replaced = torch.from_numpy(batch.replaced.view(np.int16))
        return function(positives, replaced, torch.from_numpy(batch.head_counts))

    return way


def turn(way: Way, n: int, k: int, threads: int = 1) -> Turn:
    """Repeat a way; torch uses some threads meanwhile."""
    batch, positives = drawn(n, k)

    def step() -> int:
        way(batch, positives)
        return n * k

    timed = repeated(step)

    def run(seconds: float) -> float:
        torch.set_num_threads(threads)
        return timed(seconds)

    return run


def resident() -> float:
    """Return the megabytes of memory that this process uses."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def starts() -> list[Row]:
    """Measure the first expansion of processes, once the cache has the compiled code."""
    rows: list[Row] = []
    for _ in range(4):
        done = subprocess.run(
            [sys.executable, "-c", _START], check=True, capture_output=True, text=True
        )
        seconds, megabytes = map(float, done.stdout.split())
        rows.append({"system": "first expansion", "seconds": seconds, "megabytes": megabytes})
    return rows[1:]


def main(json_path: Path | None, with_candidates: bool, folder: str) -> None:
    """Measure and report.

    :param folder: empty, for what the candidates compile
    """
    default = torch.get_num_threads()
    ways: list[tuple[str, str, Way, int]] = [
        ("filling the array", "triples", fill_triples, 1),
        ("conditional writes, numpy", "triples", conditional_triples, 1),
        ("torch", "triples", torch_triples, 1),
        (f"torch, {default} threads", "triples", torch_triples, default),
        ("without numba", "triples", lambda batch, rows: batch.triples(rows.numpy()), 1),
        ("with numba", "triples", expand, 1),
        ("conditional writes, sliced", "columns", sliced_columns, 1),
        ("without numba", "columns", lambda batch, rows: batch.columns(rows.numpy()), 1),
        ("with numba", "columns", expand_columns, 1),
    ]
    firsts: list[Row] = []
    if with_candidates:
        # Empty, so that both compile.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.environ["TORCH_EXTENSIONS_DIR"] = folder
        for name, make in (
            ("torch.compile", compiled_by_torch),
            ("C++ operator", operator_in_cpp),
        ):
            begin = time.perf_counter()
            way = make()
            batch, positives = drawn(1024, 64)
            assert np.array_equal(way(batch, positives), batch.triples(positives.numpy()))  # type: ignore[arg-type]
            firsts.append({"system": name, "seconds": time.perf_counter() - begin})
            ways.append((name, "triples", way, 1))
    cases: list[Case] = [
        ({"system": name, "form": form, "batch": n, "k": k}, turn(way, n, k, threads))
        for n, k in SHAPES
        for name, form, way, threads in ways
    ]
    rows = measure(cases, "expansion")
    show("expansion", rows)
    first_calls = [*starts(), *firsts]
    for row in first_calls:
        console.print(row)
    write("expansion", rows, json_path, first_calls=first_calls)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--candidates", action="store_true", help="also what was not chosen")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as empty:
        main(options.json, options.candidates, empty)
