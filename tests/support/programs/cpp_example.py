"""Builds and runs the C++ client."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from negserve import Client, CorruptedBatch, EpochConfig, SamplerConfig
from tests.support.graphs import REPOSITORY
from tests.support.turns import one_at_a_time

SOURCE = REPOSITORY / "examples" / "cpp"
#: Kept between runs; git ignores it.
BUILD = SOURCE / "build" / "test"
_BUILD_SECONDS = 280
_RUN_SECONDS = 100


def missing() -> str | None:
    """Return the tools that a build needs and this machine lacks."""
    tools = [
        tool
        for tool in ("cmake", "make", "c++", "pkg-config", "protoc", "grpc_cpp_plugin")
        if shutil.which(tool) is None
    ]
    if tools:
        return f"no {', '.join(tools)}"
    headers = "#include <google/protobuf/struct.pb.h>\n#include <grpcpp/version_info.h>\n"
    found = subprocess.run(
        ["c++", "-E", "-x", "c++", "-"], input=headers, capture_output=True, text=True, timeout=60
    )
    return None if found.returncode == 0 else "no headers of gRPC or protobuf"


def build() -> Path:
    """Build the command-line program from the sources as they are, or skip the test.

    Where the environment has NEGSERVE_REQUIRE_CPP, the test fails instead.
    """
    lack = missing()
    if lack is not None:
        say = pytest.fail if os.environ.get("NEGSERVE_REQUIRE_CPP") else pytest.skip
        say(f"{lack}; examples/cpp/README.md names the packages that a build needs")
    # Each worker of pytest has its own session; those after the first find it built.
    with one_at_a_time(BUILD.with_suffix(".lock")):
        for command in (
            # Not optimised, which takes a third less; CMAKE_BUILD_TYPE has no other meaning here.
            [
                "cmake",
                "-S",
                str(SOURCE),
                "-B",
                str(BUILD),
                "-DNEGSERVE_WERROR=ON",
                "-DCMAKE_BUILD_TYPE=None",
                # One file a target, so that gRPC's headers are read once: half the time. `.ci/run`
                # builds file by file, as its README says.
                *("-DCMAKE_UNITY_BUILD=ON", "-DCMAKE_UNITY_BUILD_BATCH_SIZE=0"),
            ],
            ["cmake", "--build", str(BUILD), "--parallel", "2"],
        ):
            done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_SECONDS)
            assert done.returncode == 0, done.stdout + done.stderr
    return BUILD / "negserve-cpp"


@dataclass
class Result:
    """Output of a run of the program."""

    status: int
    stdout: bytes
    stderr: str


def run(program: Path, *arguments: object) -> Result:
    done = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, timeout=_RUN_SECONDS
    )
    return Result(done.returncode, done.stdout, done.stderr.decode())


def fields(config: SamplerConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in config.__slots__}


def sample_of(
    client: Client,
    dataset: str,
    config: SamplerConfig,
    positives: NDArray[np.int64],
    position: int,
) -> CorruptedBatch:
    """Draw with the Python client."""
    sampler = client.triples_factory(dataset).open_sampler(**fields(config))
    try:
        return sampler.sample(positives, position)
    finally:
        sampler.close()


def sampler_options(config: SamplerConfig) -> list[object]:
    """Convert a configuration to options of the program; ``--log-q`` is a file there."""
    options: list[object] = [
        *("--kind", config.kind, "-k", config.num_negs_per_pos, "--seed", config.seed),
        *("--scheme", ",".join(config.corruption_scheme), "--chunk-size", config.chunk_size),
        *("--filter-mode", config.filter_mode, "--alpha", config.alpha),
    ]
    if config.filter_splits:
        options += ["--filter", ",".join(config.filter_splits)]
    if config.mixture:
        options += ["--mixture", ",".join(f"{kind}:{shares}" for kind, shares in config.mixture)]
    if config.candidates is not None:
        options += ["--candidates", ",".join(map(str, config.candidates))]
    return options + (["--distinct"] if config.distinct else [])


def epoch_options(config: EpochConfig) -> list[object]:
    options: list[object] = ["--tail", config.tail]
    for name in ("batch_size", "rank", "world_size", "worker", "num_workers"):
        options += [f"--{name.replace('_', '-')}", getattr(config, name)]
    if config.relations is not None:
        options += ["--relations", ",".join(map(str, config.relations))]
    return options + ([] if config.shuffle else ["--keep-order"])
