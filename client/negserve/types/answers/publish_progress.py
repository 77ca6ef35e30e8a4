"""Progress of a publication."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Stage = Literal["waiting", "uploading", "building"]


@dataclass(frozen=True, slots=True)
class PublishProgress:
    """Progress of a publication.

    :ivar stage: ``waiting`` for another client that uploads the same graph, ``uploading``, or
        ``building`` on the server
    :ivar num_received: triples that the server has, of all splits together
    :ivar num_triples: triples of the graph, of all splits together
    """

    stage: Stage
    num_received: int
    num_triples: int
