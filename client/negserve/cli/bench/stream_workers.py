"""The processes that keep streams busy: as many as this machine has processors for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import click
import numpy as np

from negserve.cli.bench.cell import Cell, Figures
from negserve.types.checks.text import printable

#: Seconds beside those of its calls after which a process counts as hung: it starts, or is paused.
_GRACE_SECONDS = 60.0
#: File of Linux with the time of all processors.
_PROCESSORS = Path("/proc/stat")


class StreamWorkers:
    """Processes of :mod:`.stream_worker`, started when they are needed, and ended with the block.

    They are processes because one of Python uses one processor: threads alone would measure it.

    :param client: arguments of their clients
    :param dataset: name of the dataset
    :param patience: seconds that a call of such a client takes at most
    """

    def __init__(self, client: Mapping[str, Any], dataset: str, patience: float) -> None:
        self._options = {"client": dict(client), "dataset": dataset}
        self._limit = patience + _GRACE_SECONDS
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _kill(self._processes)
        for process in self._processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def run(self, cell: Cell, sampler: Mapping[str, Any], seconds: float) -> Figures:
        """Measure a cell.

        :param sampler: fields of :class:`negserve.SamplerConfig` beside k
        :raises ClickException: with a stream's error
        """
        number = min(cell.streams, os.cpu_count() or 1)
        while len(self._processes) < number:
            self._processes.append(_start())
        used = self._processes[:number]
        options = {
            **self._options,
            "sampler": {**sampler, "num_negs_per_pos": cell.k},
            "call": cell.call,
            "batch_size": cell.batch_size,
        }
        seeds = [list(range(at, cell.streams, number)) for at in range(number)]
        self._ask(used, [{"do": "open", "seeds": each, **options} for each in seeds])
        before = _processor_seconds()
        answers = self._ask(used, [{"do": "measure", "seconds": seconds}] * number, seconds)
        figures = _figures(answers, _machine_load(before, _processor_seconds()))
        self._ask(used, [{"do": "open", "seeds": [], **options}] * number)
        return figures

    def _ask(
        self,
        processes: Sequence[subprocess.Popen[str]],
        requests: Sequence[Mapping[str, Any]],
        seconds: float = 0.0,
    ) -> list[dict[str, Any]]:
        """Send each process a request, and wait for all answers; a hung process is killed."""
        watchdog = threading.Timer(self._limit + seconds, _kill, (processes,))
        watchdog.daemon = True
        watchdog.start()
        try:
            for process, request in zip(processes, requests, strict=True):
                assert process.stdin is not None
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
            answers = [json.loads(_line(process)) for process in processes]
        except (BrokenPipeError, EOFError) as error:
            raise click.ClickException("a process of this program ended or hung; try again, or "
                                       "with fewer --streams") from error  # fmt: skip
        finally:
            watchdog.cancel()
        for answer in answers:
            if "error" in answer:
                raise click.ClickException(printable(answer["error"]))
        return answers


def _start() -> subprocess.Popen[str]:
    # In a session of its own: Ctrl-C is for the program, which ends its processes.
    return subprocess.Popen(
        [sys.executable, "-m", "negserve.cli.bench.stream_worker"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def _kill(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.kill()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    if line := process.stdout.readline():
        return line
    raise EOFError


def _figures(answers: Sequence[Mapping[str, Any]], machine_load: float | None) -> Figures:
    streams = [stream for answer in answers for stream in answer["streams"]]
    times = np.concatenate([stream["microseconds"] for stream in streams]) / 1e6

    def rates(name: str) -> list[float]:
        return [stream[name] / stream["elapsed"] for stream in streams]

    return Figures(
        mean=float(times.mean()),
        p50=float(np.median(times)),
        p99=float(np.quantile(times, 0.99)),
        calls=len(times),
        negatives_per_second=sum(rates("negatives")),
        received=sum(rates("received")),
        sent=sum(rates("sent")),
        slowest_to_fastest=min(rates("negatives")) / max(rates("negatives")),
        client_cpu=sum(answer["cpu"] for answer in answers) / len(times),
        client_load=max(answer["cpu"] / answer["elapsed"] for answer in answers),
        machine_load=machine_load,
    )


def _processor_seconds() -> tuple[int, int] | None:
    """Return the time that this machine's processors had nothing to do, and all their time."""
    try:
        fields = list(map(int, _PROCESSORS.read_text().split("\n", 1)[0].split()[1:9]))
    except OSError:  # no Linux
        return None
    return fields[3] + fields[4], sum(fields)


def _machine_load(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float | None:
    if before is None or after is None or after[1] == before[1]:
        return None
    return 1.0 - (after[0] - before[0]) / (after[1] - before[1])
