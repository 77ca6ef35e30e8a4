"""buf's rules for the proto: lint, and no breaking change since the last release."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.graphs import REPOSITORY
from tests.support.programs.node import BUF, require_node_modules

PROTO = REPOSITORY / "proto"
BASELINE = PROTO / "baseline.binpb"


@pytest.fixture(autouse=True)
def installed() -> None:
    require_node_modules()


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """A copy of the proto that a test may change."""
    return Path(shutil.copytree(PROTO, tmp_path / "proto"))


def buf(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BUF, *arguments], capture_output=True, text=True, timeout=60)


def replace(folder: Path, old: str, new: str) -> None:
    path = folder / "negserve" / "v1" / "sampler.proto"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_the_proto_follows_the_lint_rules():
    done = buf("lint", PROTO)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_proto_breaks_no_client():
    done = buf("breaking", PROTO, "--against", BASELINE)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("uint32 num_negs_per_pos = 2;", "uint32 numNegsPerPos = 2;", "lower_snake_case"),
        ("  // Key of the generator; any 64-bit value.\n", "", "non-empty comment"),
        ("  SLOT_HEAD = 1;", "  HEAD = 1;", "should be prefixed"),
    ],
)
def test_lint_finds(changed: Path, old: str, new: str, complaint: str):
    replace(changed, old, new)
    done = buf("lint", changed)
    assert done.returncode != 0
    assert complaint in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("uint64 seed = 5;", "uint64 key = 5;", "changed name"),
        ("uint64 seed = 5;", "uint64 seed = 15;", "deleted"),
        ("  bytes mask = 6;", "  string mask = 6;", "changed type"),
        ("  rpc GetDataset(", "  rpc FindDataset(", "deleted"),
    ],
)
def test_breaking_changes_are_found(changed: Path, old: str, new: str, complaint: str):
    replace(changed, old, new)
    done = buf("breaking", changed, "--against", BASELINE)
    assert done.returncode != 0
    assert complaint in done.stdout


def test_additions_break_nothing(changed: Path):
    replace(changed, "uint64 seed = 5;", "uint64 seed = 5;\n  // New.\n  uint64 added = 99;")
    assert buf("breaking", changed, "--against", BASELINE).returncode == 0
