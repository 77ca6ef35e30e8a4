"""``negserve-server`` whose threads draw nothing while the file ``NEGSERVE_TEST_HOLD`` exists."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from negserve_server.cli import main
from negserve_server.sampling import Sampler

_SECONDS = 120.0
_draw_runs = Sampler.draw_runs


def _holding(self: Sampler, *arguments: Any, **options: Any) -> Any:
    held = Path(os.environ["NEGSERVE_TEST_HOLD"])
    until = time.monotonic() + _SECONDS
    while held.exists() and time.monotonic() < until:
        time.sleep(0.01)
    return _draw_runs(self, *arguments, **options)


if __name__ == "__main__":
    Sampler.draw_runs = _holding  # type: ignore[method-assign]
    main(sys.argv[1:])
