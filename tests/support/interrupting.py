"""Interrupts trainers at random moments, and reports how they took it.

``python -m tests.support.interrupting [--count N] [--load N] [--seed N] [PART ...]`` sends N
interrupts to each part of :mod:`tests.support.children.interrupted_trainer`, beside so many busy
processes, and prints for each how many of them hung, went wrong, or came late. The test suite does
the same with fewer.
"""

from __future__ import annotations

import argparse
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Thread

from tests.support.children.interrupted_trainer import PARTS
from tests.support.preloaded import PIPE, PreloadedProcess
from tests.support.server_process import server_process

#: Longest time that a trainer is left alone.
_LONGEST_SECONDS = 0.3
_START_SECONDS = 120.0


@dataclass
class Outcome:
    """Results of a trainer's interrupts.

    :ivar seconds: until each arrived
    :ivar failures: what went wrong, one line each
    """

    part: str
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        num = len(self.seconds) + len(self.failures)
        late = sum(seconds > 2 for seconds in self.seconds)
        longest = max(self.seconds, default=0.0)
        return (
            f"{self.part:<11} {num:>4} interrupts, {len(self.failures)} failed, {late} after more "
            f"than 2 s, the last after {longest:.2f} s"
        )


class _Trainer:
    """A running trainer, and its output.

    :param patience: seconds after which it counts as hung
    """

    def __init__(self, part: str, target: str, seed: int, patience: float) -> None:
        self._patience = patience
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = PreloadedProcess(
            ["-m", "tests.support.children.interrupted_trainer", part, target, str(seed)],
            stdin=PIPE,
            stdout=PIPE,
            stderr=self._errors,
        )
        self._lines: SimpleQueue[str] = SimpleQueue()
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())
        self._lines.put("ended")

    def expect(self, due: str, seconds: float | None = None) -> None:
        """Wait until it prints a line.

        :raises RuntimeError: if it says something else, or nothing
        """
        try:
            line = self._lines.get(timeout=seconds or self._patience)
        except Empty:
            self._process.send_signal(signal.SIGUSR1)  # it writes its stacks
            time.sleep(0.5)
            raise RuntimeError(f"hung before it was {due}\n{self.errors()}") from None
        if line != due:
            raise RuntimeError(f"{line} before it was {due}\n{self.errors()}")

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-6000:]

    def end(self) -> None:
        self._process.kill()
        self._process.wait(30)
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            assert pipe is not None
            pipe.close()


def interrupt(part: str, target: str, count: int, seed: int, patience: float = 20.0) -> Outcome:
    """Interrupt a trainer some number of times; replace it if it fails.

    :param seed: of the moments
    :param patience: seconds after which it counts as hung
    """
    moments = random.Random(seed)
    outcome = Outcome(part)
    trainer: _Trainer | None = None
    try:
        for number in range(count):
            if trainer is None:
                trainer = _Trainer(part, target, seed + number, patience)
                trainer.expect("ready", _START_SECONDS)
            time.sleep(_LONGEST_SECONDS * moments.random() ** 2)
            begin = time.monotonic()
            trainer.interrupt()
            try:
                trainer.expect("interrupted")
                seconds = time.monotonic() - begin
                trainer.go_on()
                trainer.expect("well")
                errors = trainer.errors()
                if errors:
                    raise RuntimeError(f"wrote\n{errors}")
                trainer.expect("ready")
                outcome.seconds.append(seconds)
            except RuntimeError as error:
                outcome.failures.append(f"seed {seed}, interrupt {number}: {error}")
                trainer.end()
                trainer = None
    finally:
        if trainer is not None:
            trainer.end()
    return outcome


@contextmanager
def silent_target() -> Iterator[str]:
    """Return an address that accepts connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def busy(num_processes: int) -> Iterator[None]:
    """Keep the processors busy."""
    processes = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(num_processes)
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait(30)


def main() -> int:
    """Interrupt, print the results, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="interrupts of each part")
    parser.add_argument("--load", type=int, default=0, help="busy processes beside")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("parts", nargs="*", metavar="PART", help="default: all")
    options = parser.parse_args()
    failed = False
    limits = ("--max-publish-graphs", "100000", "--max-publish-ids", "1000000000")
    with ExitStack() as stack:
        server = stack.enter_context(
            server_process("--log-level", "error", "--threads", "1", "--allow-publish", *limits)
        )
        silent = stack.enter_context(silent_target())
        stack.enter_context(busy(options.load))
        for part in options.parts or PARTS:
            target = silent if part == "silent" else server.target
            outcome = interrupt(part, target, options.count, options.seed)
            print(outcome, flush=True)
            for failure in outcome.failures:
                print(f"  {failure}", file=sys.stderr, flush=True)
            failed |= bool(outcome.failures)
    return failed


if __name__ == "__main__":
    sys.exit(main())
