"""A client program that reads tasks and writes results, one line of JSON each."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from collections.abc import Sequence
from typing import Any

_SECONDS = 120.0


class ProgramError(Exception):
    """The program ended, did not answer in time, or wrote something that is not a result."""


class Program:
    """Runs a client program until the block ends.

    :param command: the program and its arguments
    :param target: address of the server, also passed as NEGSERVE_TARGET
    """

    def __init__(self, command: Sequence[str], target: str) -> None:
        self._target = target
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "NEGSERVE_TARGET": target},
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._num_tasks = 0
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(5)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def ask(self, task: dict[str, Any]) -> dict[str, Any]:
        """Send a task, and wait for its result.

        :raises ProgramError: if there is no result
        """
        self._num_tasks += 1
        line = json.dumps({"id": self._num_tasks, "target": self._target, **task})
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            answer = self._lines.get(timeout=_SECONDS)
        except OSError as error:
            raise ProgramError(f"the program has ended: {error}") from error
        except queue.Empty as error:
            raise ProgramError(f"no result within {_SECONDS:g} seconds") from error
        if not answer:
            raise ProgramError("the program has ended")
        try:
            result = json.loads(answer)
            if result.get("id") != self._num_tasks:
                raise ProgramError(f"result of task {result.get('id')}, expected {self._num_tasks}")
        except (ValueError, AttributeError) as error:
            raise ProgramError(f"{answer[:200]!r} is not a JSON object") from error
        return dict(result)
