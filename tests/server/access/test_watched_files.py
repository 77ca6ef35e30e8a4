"""Changes of files are noticed, whatever changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from negserve_server.access import watched_files
from negserve_server.access.watched_files import WatchedFiles


def test_another_file_time_or_size_is_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watched_files, "_LOOK_SECONDS", 0.0)
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1")
    files = WatchedFiles([one, other])
    assert not files.have_changed()
    other.write_text("2")
    assert files.have_changed()
    assert not files.have_changed()
    before = one.stat()
    replacement = tmp_path / "replacement"
    replacement.write_text("3")
    os.utime(replacement, ns=(before.st_atime_ns, before.st_mtime_ns))
    replacement.rename(one)
    assert files.have_changed()
    one.unlink()
    assert files.have_changed()
    assert not files.have_changed()


def test_files_are_looked_at_once_a_second_at_most(tmp_path: Path):
    path = tmp_path / "file"
    files = WatchedFiles([path])
    path.write_text("1")
    assert not files.have_changed()
