"""One call of the golden files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from google.protobuf.message import Message

from negserve.v1 import sampler_pb2 as pb


@dataclass(frozen=True)
class Case:
    """One call.

    :ivar about: what it shows
    :ivar requests: all that the client sends before it half-closes, messages or raw bytes
    """

    name: str
    about: str
    requests: list[Message | bytes] = field(default_factory=list)


def ids(values: Any, width: int) -> pb.Ids:
    """Encode ids."""
    return pb.Ids(data=np.asarray(values, dtype=f"<u{width}").tobytes(), width=width)
