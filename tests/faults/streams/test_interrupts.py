"""Ctrl-C at random moments: it arrives, and the interrupted objects stay usable."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from negserve import Client, EpochConfig, SamplerConfig
from tests.support.children.interrupted_trainer import PARTS
from tests.support.interrupting import interrupt, silent_target
from tests.support.preloaded import PIPE, PreloadedProcess
from tests.support.server_process import ServerProcess, server_process

#: The last word on whether something hangs; a busy machine needs some of it.
PATIENCE = 60.0
_COUNT = 10


@pytest.fixture(scope="module")
def publishable() -> Iterator[ServerProcess]:
    with server_process("--threads", "1", "--log-level", "warning", "--allow-publish") as running:
        yield running


def test_interrupts_at_random_moments(publishable: ServerProcess):
    """``python -m tests.support.interrupting`` sends more interrupts, and measures."""
    seed = random.randrange(2**32)
    with silent_target() as silent, ThreadPoolExecutor(4) as threads:
        targets = [silent if part == "silent" else publishable.target for part in PARTS]
        outcomes = list(
            threads.map(lambda *case: interrupt(*case, _COUNT, seed, PATIENCE), PARTS, targets)
        )
    assert [failure for outcome in outcomes for failure in outcome.failures] == []
    assert sum(len(outcome.seconds) for outcome in outcomes) == _COUNT * len(PARTS)


class Program:
    """A process group that is interrupted as a terminal does it: all of it.

    :param imports: it imports what it needs, itself
    """

    def __init__(self, *command: str, stdin: int | None = None, imports: bool = False) -> None:
        self.process: subprocess.Popen[str] | PreloadedProcess
        if imports:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                stdin=stdin, stdout=PIPE, stderr=PIPE, text=True, start_new_session=True,
            )  # fmt: skip
        else:
            self.process = PreloadedProcess(
                command, stdin=stdin, stdout=PIPE, stderr=PIPE, start_new_session=True
            )

    def read_line(self) -> str:
        """Wait for a line of its output."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def interrupt(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> tuple[int, str]:
        """Wait until it, and all that hold its output, have ended; return status and errors."""
        _, errors = self.process.communicate(timeout=PATIENCE)
        assert errors is not None
        return self.process.wait(), errors

    def interrupt_and_end(self) -> tuple[int, str]:
        self.interrupt()
        return self.end()


@pytest.fixture
def run(request: pytest.FixtureRequest) -> type[Program]:
    """Programs that end with the test, with all that they started."""

    class Ended(Program):
        def __init__(self, *command: str, stdin: int | None = None, imports: bool = False) -> None:
            super().__init__(*command, stdin=stdin, imports=imports)
            request.addfinalizer(self.clean_up)

        def clean_up(self) -> None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate(timeout=PATIENCE)

    return Ended


_WORKERS = """
import signal, sys
from negserve.data import TripleLoader, TripleStream

def main():
    stream = TripleStream(sys.argv[1], "world", batch_size=16)
    loader = TripleLoader(stream, num_workers=2, multiprocessing_context=sys.argv[2])
    try:
        print("ready", flush=True)  # the interrupt may come before it returns
        while True:
            for batch in loader:
                pass
    except (KeyboardInterrupt, RuntimeError) as error:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # PyTorch's handler of SIGCHLD may say so instead, when the interrupt ends a worker first.
        assert isinstance(error, KeyboardInterrupt) or "DataLoader worker" in str(error), error
        print("interrupted", stream.epoch >= 0, flush=True)

if __name__ == "__main__":
    main()
"""


# The last moment is past the first epoch; spawned workers take seconds until its first batch.
@pytest.mark.parametrize(
    ("context", "delay"),
    [("fork", 0.0), ("fork", 0.3), ("fork", 1.0), ("spawn", 0.0), ("spawn", 0.3), ("spawn", 3.0)],
)
def test_workers_end_with_the_training(
    server: ServerProcess, run: type[Program], tmp_path: Path, context: str, delay: float
):
    (tmp_path / "training.py").write_text(_WORKERS)
    training = run(str(tmp_path / "training.py"), server.target, context)
    assert training.read_line() == "ready"
    time.sleep(delay)  # a moment in it, whichever
    training.interrupt()
    assert training.read_line() == "interrupted True"
    status, _ = training.end()  # the workers have its output, too: they are gone
    assert status == 0


_TASKS = """
import asyncio, sys
from negserve.aio import Client

async def main():
    async with Client(sys.argv[1], timeout=60) as client:
        factory = await client.triples_factory("world")
        sampler = await factory.open_sampler(num_negs_per_pos=4)
        stream = factory.epochs(sampler.config)
        print("ready", flush=True)
        try:
            while True:
                await sampler.sample([[400, 12, 2176]] * 64, 0)
                async for batch in stream:
                    if batch.next_start > 2000:
                        break
        except asyncio.CancelledError:
            print("cancelled", flush=True)
            raise
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_tasks_are_cancelled(server: ServerProcess, run: type[Program]):
    for delay in (0.0, 0.1, 0.5):
        program = run("-c", _TASKS, server.target)
        assert program.read_line() == "ready"
        time.sleep(delay)
        program.interrupt()
        assert program.read_line() == "cancelled"
        assert program.read_line() == "interrupted"
        assert program.end() == (0, "")


#: Runs a command as the console does, and says when it minds interrupts: after its imports.
_COMMAND = """
import signal, threading, time
from {module} import main

def say():
    while signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        time.sleep(0.001)
    print("ready", flush=True)

threading.Thread(target=say, daemon=True).start()
main()
"""


def command(
    run: type[Program],
    module: str,
    *arguments: str,
    stdin: int | None = None,
    imports: bool = False,
) -> Program:
    program = run("-c", _COMMAND.format(module=module), *arguments, stdin=stdin, imports=imports)
    assert program.read_line() == "ready"
    return program


@pytest.mark.parametrize("moment", range(5))
def test_the_client_s_command_ends_with_130(
    server: ServerProcess, run: type[Program], tmp_path: Path, moment: int
):
    facts = tmp_path / "facts.tsv"
    facts.write_text("400\t12\t2176\n" * 200_000)
    for arguments in (
        ("info", "--target", "127.0.0.1:1"),  # which is tried again and again
        ("sample", "--target", server.target, "--ids", "-k", "64", str(facts)),
    ):
        program = command(run, "negserve.cli", *arguments)
        time.sleep(random.random() * 0.1 * moment**2)
        assert program.interrupt_and_end() == (130, "")


@pytest.mark.parametrize("moment", range(5))
def test_an_interrupted_evaluation_set_leaves_nothing_half_written(
    server: ServerProcess, run: type[Program], tmp_path: Path, moment: int
):
    triples, there = tmp_path / "facts.tsv", ("--target", server.target, "--ids")
    triples.write_text("".join(f"{head}\t12\t2176\n" for head in range(400)))
    manifest, file = tmp_path / "set.json", tmp_path / "set.npz"
    pin = ("create", *there, "-k", "2000", "-o", str(manifest), str(triples))
    assert command(run, "negserve.cli", "evaluation-set", *pin).end() == (0, "")
    text = manifest.read_text()
    for arguments in (pin, ("export", *there, "-o", str(file), str(manifest), str(triples))):
        program = command(run, "negserve.cli", "evaluation-set", *arguments)
        time.sleep(random.random() * 0.1 * moment**2)
        with suppress(ProcessLookupError):  # it may be done
            program.interrupt()
        status, errors = program.end()
        assert (status, errors) in {(0, ""), (130, "")}
        left = set(tmp_path.iterdir()) - {triples, manifest}
        assert left == ({file} if status == 0 and str(file) in arguments else set())
        assert manifest.read_text() == text


def test_a_command_whose_clean_up_fails_ends_silently(run: type[Program]):
    program = run(
        "-c",
        "import os, signal, click\n"
        "from negserve.terminal.command import Commands\n"
        "program = Commands()\n"
        "@program.command()\n"
        "def write():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    finally:\n"
        "        raise click.ClickException('seek of closed file')\n"
        "program.main()\n",
        "write",
    )
    assert program.end() == (130, "")


def test_a_command_that_waits_for_a_silent_server_ends(run: type[Program]):
    with silent_target() as silent:
        program = command(run, "negserve.cli", "sample", "--target", silent, stdin=PIPE)
        time.sleep(1)
        assert program.interrupt_and_end() == (130, "")


def test_a_command_that_waits_for_its_input_ends(server: ServerProcess, run: type[Program]):
    program = command(run, "negserve.cli", "sample", "--target", server.target, stdin=PIPE)
    time.sleep(1)
    assert program.interrupt_and_end() == (130, "")


@pytest.mark.parametrize("num_lines", [1, 200_000])
def test_a_closed_pipe_prints_no_traceback(
    server: ServerProcess, run: type[Program], tmp_path: Path, num_lines: int
):
    facts = tmp_path / "facts.tsv"
    facts.write_text("400\t12\t2176\n" * num_lines)
    options = ("sample", "--target", server.target, "--ids", str(facts))
    program = command(run, "negserve.cli", *options)
    assert program.process.stdout is not None
    program.process.stdout.close()
    assert program.process.stderr is not None
    assert program.process.stderr.read() == ""
    program.process.wait(PATIENCE)


@pytest.mark.parametrize(
    ("arguments", "delay"),
    [
        (("serve", "--listen", "127.0.0.1:0"), 0.0),
        (("inspect",), 0.2),
        (("report",), 0.5),
    ],
)
def test_the_server_s_commands_end_with_130(
    run: type[Program],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: tuple[str, ...],
    delay: float,
):
    """While they load and compile, which takes seconds, as no cached kernel is found.

    All commands end by the same handler: each is interrupted once, each at another moment.
    """
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    program = command(run, "negserve_server.cli", *arguments, imports=True)
    time.sleep(delay)
    status, errors = program.interrupt_and_end()
    assert status == 130
    assert "Traceback" not in errors


_IMPORTS = """
import signal, threading, time
import negserve_server.process.command

def say():
    while signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        time.sleep(0.001)
    print("ready", flush=True)

threading.Thread(target=say, daemon=True).start()
import negserve_server.cli
"""


@pytest.mark.parametrize("delay", [0.0, 0.1])
def test_imports_of_the_servers_command_are_interrupted_quietly(run: type[Program], delay: float):
    program = run("-c", _IMPORTS, imports=True)
    assert program.read_line() == "ready"
    time.sleep(delay)
    assert program.interrupt_and_end() == (130, "")


def test_an_interrupt_lets_a_server_drain_and_another_ends_it(run: type[Program]):
    program = command(
        run,
        "negserve_server.cli",
        *("serve", "--listen", "127.0.0.1:0", "--drain-seconds", "1000"),
    )
    target = program.read_line().removeprefix("listening on ")
    with Client(target) as client:
        # 43 MB, which nobody reads: the server has to wait.
        sampler = SamplerConfig(num_negs_per_pos=4000)
        stream = client.triples_factory("world").epochs(
            sampler, EpochConfig(batch_size=32), prefetch=1
        )
        batches = iter(stream)
        next(batches)
        program.interrupt()
        assert program.process.stderr is not None
        while "draining" not in program.process.stderr.readline():
            pass
        assert program.process.poll() is None
        status, errors = program.interrupt_and_end()
        assert status == 130
        assert "Traceback" not in errors
        batches.close()  # type: ignore[attr-defined]


def test_an_interrupt_ends_an_idle_server_in_order(run: type[Program]):
    program = command(run, "negserve_server.cli", "serve", "--listen", "127.0.0.1:0")
    program.read_line()
    status, errors = program.interrupt_and_end()
    assert status == 0
    assert "stopped" in errors


@pytest.mark.parametrize(
    "command",
    [("negserve.cli", "info", "--target", "127.0.0.1:1"), ("negserve_server.cli", "serve")],
    ids=lambda command: command[0],
)
def test_a_command_is_interrupted_while_it_imports(command: tuple[str, ...]):
    for library in ("_multiarray_umath", "cygrpc"):  # of numpy, and of gRPC
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            maps = Path(f"/proc/{process.pid}/maps")
            deadline = time.monotonic() + 60
            while library not in maps.read_text():
                assert time.monotonic() < deadline
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 130, said
        assert "Traceback" not in said
