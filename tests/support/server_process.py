"""A real server in a separate process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.preloaded import PIPE, PreloadedProcess

_START_SECONDS = 120  # the first start on a machine compiles the kernels


@dataclass
class ServerProcess:
    """A running server.

    :ivar addresses: where it listens, in the order of the options
    """

    process: PreloadedProcess
    addresses: list[str]

    @property
    def target(self) -> str:
        """The first address."""
        return self.addresses[0]

    @property
    def last_target(self) -> str:
        """The first address by a name that comes after all addresses, where streams begin."""
        return self.target.replace("127.0.0.1", "localhost")

    @property
    def resident_bytes(self) -> int:
        """Resident memory, in bytes."""
        return int(self._stat("statm")[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def busy_seconds(self) -> float:
        """Processor time that it has used, in seconds."""
        fields = self._stat("stat")
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    def _stat(self, name: str) -> list[str]:
        return Path(f"/proc/{self.process.pid}/{name}").read_text().split()

    def kill(self) -> None:
        """Kill the server (SIGKILL) and wait until it has ended."""
        self.process.kill()
        self.process.wait(30)

    def terminate(self) -> int:
        """Stop the server (SIGTERM) and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def server_process(
    *options: str,
    listen: tuple[str, ...] = ("127.0.0.1:0",),
    env: dict[str, str] | None = None,
    log: Path | None = None,
    module: str = "negserve_server.cli",
) -> Iterator[ServerProcess]:
    """Run ``negserve-server serve`` until the block ends.

    :param listen: addresses; the default takes a free port, that of a server before can be had
        again once that one is gone
    :param module: what is run in place of the server
    :param log: a file for what it logs; None for the standard error of the tests
    """
    arguments = ["serve", *options]
    for address in listen:
        arguments += ["--listen", address]
    with ExitStack() as stack:
        stderr = None if log is None else stack.enter_context(log.open("a"))
        environment = {**os.environ, **(env or {})}
        command = ["-m", module, *arguments]
        process = PreloadedProcess(command, stdout=PIPE, stderr=stderr, env=environment)
    stdout = process.stdout
    assert stdout is not None
    watchdog = threading.Timer(_START_SECONDS, process.kill)
    watchdog.start()
    try:
        addresses = []
        for _ in listen:
            line = stdout.readline()
            assert line.startswith("listening on "), f"server said {line!r}"
            addresses.append(line.removeprefix("listening on ").strip())
        watchdog.cancel()
        yield ServerProcess(process, addresses)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait(30)
        stdout.close()
