"""A snapshot that is exchanged while it is opened is refused: its arrays might be of two graphs."""

from __future__ import annotations

from pathlib import Path

import pytest

from negserve_server.administration.repository_folder import RepositoryFolder
from negserve_server.errors import MalformedSnapshot
from negserve_server.graph import TriplesFactory
from tests.support.repositories import RepositoryOnDisk, graph


def test_a_snapshot_replaced_while_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "graphs").mkdir()
    repository = RepositoryOnDisk(tmp_path / "graphs")
    repository.put("g", graph(1))
    folder = RepositoryFolder(repository.path)
    opened = TriplesFactory.from_snapshot

    def exchange(path: str) -> TriplesFactory:
        found = opened(path)
        repository.put("g", graph(2))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(TriplesFactory, "from_snapshot", exchange)
        with pytest.raises(MalformedSnapshot, match="was replaced while it was opened"):
            folder.open("g")
    factory, identity = folder.open("g")
    assert factory.fingerprint == graph(2).fingerprint
    assert identity == folder.identity("g")
