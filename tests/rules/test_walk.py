"""A reader who follows a call meets few files of the client (docs/architecture.md)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks import walk
from negserve import Client
from tests.support.server_process import ServerProcess


@pytest.mark.parametrize(
    ("call", "most_files"), [(walk.sample, 10), (walk.contains, 9), (walk.first_batch, 11)]
)
def test_a_call_leads_through_few_files(
    server: ServerProcess, call: Callable[[Client], Callable[[], object]], most_files: int
):
    found = walk.walk_of(server.target, call)
    assert len(found.files[True] | found.files[False]) <= most_files
    if call is walk.sample:
        assert sum(found.moves[True].values()) <= 25


def test_the_client_has_few_floors():
    assert walk.floors(walk.rooms(walk.arrows(walk.module_files()))) <= 7
