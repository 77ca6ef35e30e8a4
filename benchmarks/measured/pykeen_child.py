"""The process that runs PyKEEN's samplers, see :mod:`benchmarks.measured.pykeen_samplers`.

Reads one JSON object a line, and answers with one. It imports nothing of negserve or numba.
"""

from __future__ import annotations

import copy
import gc
import json
import os
import sys
import time
import warnings
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.support.positives import Positives

warnings.simplefilter("ignore")
from pykeen.sampling import BasicNegativeSampler, BernoulliNegativeSampler  # noqa: E402
from pykeen.sampling.filtering import BloomFilterer, PythonSetFilterer  # noqa: E402

_SAMPLERS = {"basic": BasicNegativeSampler, "bernoulli": BernoulliNegativeSampler}
_FILTERERS = {"bloom": BloomFilterer, "python-set": PythonSetFilterer}


class Child:
    """Builds samplers and filters once for all k, and takes turns."""

    def __init__(self, path: Path, num_entities: int, num_relations: int, batch_size: int) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        triples = np.load(path)
        batches = Positives(triples, batch_size).batches
        self._batches = cycle([torch.from_numpy(batch) for batch in batches])
        self._triples = torch.from_numpy(triples)
        self._sizes = {"num_entities": num_entities, "num_relations": num_relations}
        self._built: dict[str, Any] = {}
        self._samplers: dict[str, Any] = {}

    def build(self, what: str) -> dict[str, float]:
        """Build an unfiltered sampler or a filter; return the seconds that it took."""
        begin = time.perf_counter()
        if what in _SAMPLERS:
            self._built[what] = _SAMPLERS[what](mapped_triples=self._triples, **self._sizes)
        else:
            self._built[what] = _FILTERERS[what](mapped_triples=self._triples)
        return {"seconds": time.perf_counter() - begin}

    def turn(
        self, kind: str, k: int, filterer: str | None, collects: bool, seconds: float
    ) -> dict[str, float]:
        """Sample batches for some time; return proposed negatives per second, and their cost.

        :param collects: whether Python's garbage collector runs, as it does by default
        """
        name = f"{kind} {k} {filterer}"
        if name not in self._samplers:
            # Building an unfiltered sampler is cheap: at most one probability per relation.
            sampler = copy.deepcopy(self._built[kind])
            sampler.num_negs_per_pos = k
            sampler.filterer = self._built[filterer] if filterer is not None else None
            self._samplers[name] = sampler
        sampler, count = self._samplers[name], 0
        if not collects:
            gc.disable()
        processor, begin = time.process_time(), time.perf_counter()
        while True:
            negatives, _ = sampler.sample(next(self._batches))
            count += negatives.shape[0] * negatives.shape[1]
            if (elapsed := time.perf_counter() - begin) >= seconds:
                break
        processor = time.process_time() - processor
        gc.enable()
        return {"rate": count / elapsed, "processor_ns": 1e9 * processor / count}


def main() -> None:
    """Answer requests until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    sys.stdout = sys.stderr  # so that nothing else is printed among the answers
    child = Child(**json.loads(sys.stdin.readline()))
    print("{}", file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(child, request.pop("do"))(**request)
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
