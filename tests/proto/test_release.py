"""The archive for authors of clients is complete and reproducible."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.graphs import REPOSITORY
from tests.support.programs.node import BUF, require_node_modules


def pack(into: Path) -> Path:
    command = [sys.executable, str(REPOSITORY / "proto" / "release.py"), "--into", str(into)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked archive."""
    folder = tmp_path_factory.mktemp("archive")
    with zipfile.ZipFile(pack(folder)) as archive:
        archive.extractall(folder)
    (found,) = [path for path in folder.iterdir() if path.is_dir()]
    return found


def test_two_archives_are_equal(tmp_path: Path):
    one, other = pack(tmp_path / "one"), pack(tmp_path / "other")
    assert one.name == other.name
    assert re.fullmatch(r"negserve-proto-\d+\.\d+\.\d+\S*\.zip", one.name)
    assert one.read_bytes() == other.read_bytes()


def test_the_archive_is_complete(unpacked: Path):
    names = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*")}
    assert names >= {
        "README.md", "LICENSE", "buf.yaml", "buf.gen.yaml", "google/LICENSE", "testdata",
        "negserve/v1/errors.proto", "negserve/v1/sampler.proto",
        "google/rpc/error_details.proto", "google/rpc/status.proto",
    }  # fmt: skip
    assert "Apache License" in (unpacked / "google" / "LICENSE").read_text()
    golden = [path.name for path in (REPOSITORY / "proto" / "testdata").iterdir()]
    assert sorted(golden) == sorted(path.name for path in (unpacked / "testdata").iterdir())
    assert json.loads((unpacked / "testdata" / "Sample.json").read_text("utf-8"))["cases"]


#: Where the first message of each language is, and what is said there of the package.
LANGUAGES = {
    "java": ("dev/negserve/v1/SampleRequest.java", "package dev.negserve.v1;"),
    "kotlin": ("dev/negserve/v1/SampleRequestKt.kt", "package dev.negserve.v1"),
    "csharp": ("Sampler.cs", "namespace Negserve.V1"),
    "objc": ("negserve/v1/Sampler.pbobjc.h", "NGSSampleRequest"),
    "cpp": ("negserve/v1/sampler.pb.h", "namespace negserve {\nnamespace v1 {"),
    "python": ("negserve/v1/sampler_pb2.py", "negserve.v1"),
    "php": ("Negserve/V1/SampleRequest.php", "namespace Negserve\\V1;"),
    "ruby": ("negserve/v1/sampler_pb.rb", "module V1"),
}


@pytest.mark.skipif(shutil.which("protoc") is None, reason="there is no protoc on the PATH")
@pytest.mark.parametrize("language", LANGUAGES)
def test_protoc_compiles_it_alone(unpacked: Path, tmp_path: Path, language: str):
    protos = sorted(str(path.relative_to(unpacked)) for path in unpacked.rglob("*.proto"))
    done = subprocess.run(
        ["protoc", "-I", ".", f"--{language}_out={tmp_path}", *protos],
        cwd=unpacked, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    file, package = LANGUAGES[language]
    assert package in (tmp_path / file).read_text(encoding="utf-8")


def test_go_stubs_have_a_package(unpacked: Path):
    """protoc-gen-go finds the package of the stubs; checked without that plugin."""
    for path in (unpacked / "negserve" / "v1").glob("*.proto"):
        assert 'option go_package = "negserve.dev/negserve/v1;negservev1";' in path.read_text()


@pytest.mark.skipif(shutil.which("protoc") is None, reason="there is no protoc on the PATH")
def test_buf_generates_what_needs_no_plugin(unpacked: Path, tmp_path: Path):
    require_node_modules()
    copy = Path(shutil.copytree(unpacked, tmp_path / "copy"))
    template = (copy / "buf.gen.yaml").read_text(encoding="utf-8")
    head, *plugins = re.split(r"(?m)^(?=  (?:#[^\n]*\n  )*- (?:local|protoc_builtin): )", template)
    built_in = [each for each in plugins if "protoc_builtin: " in each]
    assert len(built_in) >= 5
    (copy / "buf.gen.yaml").write_text(head + "".join(built_in), encoding="utf-8")
    done = subprocess.run([BUF, "generate"], cwd=copy, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (copy / "gen" / "java" / "dev" / "negserve" / "v1" / "SampleRequest.java").exists()
    assert (copy / "gen" / "csharp" / "V1" / "Sampler.cs").exists()
