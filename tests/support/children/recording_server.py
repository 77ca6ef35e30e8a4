"""``negserve-server`` that also records the positions at which its engine draws.

A line of ``NEGSERVE_TEST_RECORD`` for each call of the engine: seed, first position, number of
positives.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from negserve_server.cli import main
from negserve_server.sampling import Sampler

_sample = Sampler.sample


def _recording(self: Sampler, positives: Any, position: int) -> Any:
    line = f"{self.config.seed} {position} {len(positives)}\n"
    with Path(os.environ["NEGSERVE_TEST_RECORD"]).open("a") as file:
        file.write(line)  # one write of a line: threads don't mix
    return _sample(self, positives, position)


if __name__ == "__main__":
    Sampler.sample = _recording  # type: ignore[method-assign]
    main()
