"""Reads what a server says of its version and limits."""

from __future__ import annotations

import re
from dataclasses import fields
from itertools import pairwise

from negserve._protocol.answers import check_range, invalid
from negserve.types.server_info import ServerInfo, ServerLimits
from negserve.v1 import sampler_pb2 as pb

_VERSION = re.compile(r"\d+\.\d+\.\d+\S{0,80}", flags=re.ASCII)
_MOST_VERSIONS = 1000
#: 0 where nothing may be published.
_PUBLISHING = ("max_publish_triples", "max_publish_ids", "max_publish_graphs")


def read_server_info(answer: pb.GetServerResponse) -> ServerInfo:
    """Read the answer to ``GetServer``.

    :raises InvalidAnswerError: naming the field that can't be true
    """
    if not _VERSION.fullmatch(answer.version):
        raise invalid("version", repr(answer.version), "MAJOR.MINOR.PATCH")
    versions = tuple(answer.algorithm_versions)
    check_range("algorithm_versions, numbers", len(versions), 1, _MOST_VERSIONS)
    if versions[0] < 1 or any(a >= b for a, b in pairwise(versions)):
        raise invalid("algorithm_versions", versions, "ascending, from 1 on")
    values = {field.name: getattr(answer.limits, field.name) for field in fields(ServerLimits)}
    for name, value in values.items():
        lowest = 0 if name in _PUBLISHING else 1 if isinstance(value, int) else 5e-324
        check_range(f"limits.{name}", value, lowest, 2**64 - 1)
    return ServerInfo(answer.version, versions, ServerLimits(**values))
