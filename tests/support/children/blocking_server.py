"""``negserve-server`` whose event loop blocks for a while at the first ``GetServer``."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from negserve_server.cli import main
from negserve_server.service import SamplerServicer

_get_server = SamplerServicer.get_server
_has_blocked: list[bool] = []


def _block_once(servicer: SamplerServicer, request: Any) -> Any:
    if not _has_blocked:
        _has_blocked.append(True)
        time.sleep(float(os.environ["BLOCK_SECONDS"]))
    return _get_server(servicer, request)


if __name__ == "__main__":
    SamplerServicer.get_server = _block_once  # type: ignore[method-assign]
    main(sys.argv[1:])
