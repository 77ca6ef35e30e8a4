"""``make test-containers`` ends, whatever the Docker engine does."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support.graphs import REPOSITORY


def test_an_engine_that_hangs_fails_it_within_its_limit(tmp_path: Path):
    docker = tmp_path / "docker"
    docker.write_text(
        # Its clean-up gets answers; what it waits for is a build.
        '#!/bin/sh\ncase "$1" in build) echo building >&2; exec sleep 300 ;; esac\n'
    )
    docker.chmod(0o755)
    done = subprocess.run(
        ["make", "test-containers", "CONTAINERS_LIMIT=3s"],
        cwd=REPOSITORY,
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    assert "sending signal TERM" in done.stderr
    assert "deploy/test_containers.sh" in done.stderr
