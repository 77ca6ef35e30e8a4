"""A supervisor starts workers again, gives up on those that can't start, and ends all of them."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.support.preloaded import PIPE, PreloadedProcess, run
from tests.support.workers import has_ended, wait_for

#: Runs two workers that do what the second argument says; the folder is for their traces.
_PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from negserve_server.errors import WorkerFailed
from negserve_server.logs import log_handler
from negserve_server.process.orders import Order
from negserve_server.process.reloading import Reloading
from negserve_server.process.supervisor import Supervisor

log_handler.set_up("info")
folder, what = Path(sys.argv[1]), sys.argv[2]

def work(number, tell, line):
    starts = len(list(folder.glob(f"{number}.*")))
    (folder / f"{number}.{os.getpid()}").touch()
    if what == "fails" and number == 2:
        raise OSError("no luck with\\nthe disk")
    if what == "exits" and number == 2:
        os._exit(3)
    if what == "fails later" and number == 2 and starts:
        raise OSError("no luck later")
    if what == "stays":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tell(f"ready {number}")
    if what in ("fails later", "ends") and number == 2 and starts < 3:
        os._exit(5)
    if what == "stays":
        while True:
            time.sleep(60)
    signal.pause()

class Chief:
    def handle(self, request):
        return Order(request, lambda answers: sorted(answers))

    def reload(self):
        return None

supervisor = Supervisor(2, work, Chief(), drain_seconds=0.1, reloading=Reloading(), on_restart=int)
try:
    code = supervisor.run(lambda told: print("all ready", *told, flush=True))
except WorkerFailed as error:
    sys.exit(f"Error: {error}")
sys.exit(code)
"""


def command(folder: Path, what: str) -> list[str]:
    return ["-c", _PROGRAM, str(folder), what]


def pids_of(folder: Path) -> list[int]:
    return [int(path.suffix[1:]) for path in folder.iterdir()]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("fails", r"^Error: no luck with the disk$"),
        ("exits", r"^Error: worker 2 \(process \d+\) ended with exit code 3 before it could"),
    ],
)
def test_a_worker_that_can_not_start_ends_all(tmp_path: Path, what: str, said: str):
    result = run(command(tmp_path, what), timeout=60)
    assert result.returncode == 1
    assert re.search(said, result.stderr, re.MULTILINE)
    assert "all ready" not in result.stdout
    assert len(pids_of(tmp_path)) == 2  # none was started again
    assert all(map(has_ended, pids_of(tmp_path)))


def test_a_worker_that_can_not_start_again_ends_all(tmp_path: Path):
    result = run(command(tmp_path, "fails later"), timeout=60)
    assert result.returncode == 1
    assert "all ready ready 1" in result.stdout
    assert re.search(r"^Error: .*no luck later; its start failed 5 times in a row", result.stderr,
                     re.MULTILINE)  # fmt: skip
    assert "it is started again in 0.1 s" in result.stderr
    assert "it is started again in 0.2 s" in result.stderr
    assert all(map(has_ended, pids_of(tmp_path)))


def test_a_worker_that_ends_is_started_again(tmp_path: Path):
    process = PreloadedProcess(command(tmp_path, "ends"), stdout=PIPE, stderr=PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "all ready ready 1\n"
        wait_for(lambda: len(pids_of(tmp_path)) == 5, "the third start")
        process.terminate()
        _, said = process.communicate(60)
    finally:
        process.kill()
        process.wait(30)
    assert process.returncode == 0
    assert said is not None
    assert len(re.findall(r"worker 2 \(process \d+\) ended with exit code 5; it is st", said)) == 3
    assert all(map(has_ended, pids_of(tmp_path)))


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_a_worker_that_does_not_end_is_killed(tmp_path: Path, is_interrupted: bool):
    process = PreloadedProcess(command(tmp_path, "stays"), stdout=PIPE, stderr=PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        if is_interrupted:
            process.send_signal(
                signal.SIGHUP
            )  # handled after the first, as signals of one kind merge
            assert process.stderr is not None
            assert "read again" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
        _, said = process.communicate(60)
    finally:
        process.kill()
        process.wait(30)
    if is_interrupted:
        assert process.returncode == 130
    else:
        assert process.returncode == 1
        assert "a worker did not end in time" in str(said)
    assert all(map(has_ended, pids_of(tmp_path)))


def test_workers_end_with_a_killed_supervisor(tmp_path: Path):
    process = PreloadedProcess(command(tmp_path, "stays"), stdout=PIPE)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
    assert len(pids_of(tmp_path)) == 2
    wait_for(lambda: all(map(has_ended, pids_of(tmp_path))), "the end of the workers")
