"""The command ``negserve bench``."""

from __future__ import annotations

import itertools
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from negserve._calls.client import DEFAULT_TARGET
from negserve._protocol.messages import SPLITS
from negserve._sync.client import Client
from negserve._sync.triples_factory import RemoteTriplesFactory
from negserve.cli.bench.cell import CALLS, Cell, Network
from negserve.cli.bench.report import Measurement, as_values, print_table
from negserve.cli.bench.stream_workers import StreamWorkers
from negserve.cli.json_text import json_text
from negserve.errors import NegserveError
from negserve.terminal.extras import needing_or_exit
from negserve.terminal.target_option import PATIENCE, target_option
from negserve.types.checks.text import printable
from negserve.types.config import SamplerConfig
from negserve.types.epoch import EpochConfig
from negserve.types.kinds import KINDS
from negserve.types.warning_categories import LeakageWarning

#: Calls of the smallest kind, and the seconds after which there are enough of them.
_ROUND_TRIPS, _ROUND_TRIP_SECONDS = 100, 1.0
_LEAST_ROUND_TRIPS = 5
#: Negatives per positive, and negatives, of the messages that show what the network carries.
_CHEAP_K, _CHEAP_NEGATIVES = 1000, 2**18
#: Interval of lines about the progress, where there is no terminal.
_LINE_SECONDS = 5.0
#: Largest number of streams; each is a connection with threads.
_MOST_STREAMS = 1024


class _Numbers(click.ParamType):  # type: ignore[type-arg]  # generic in later versions only
    """Different positive integers with commas between."""

    name = "N,..."

    def __init__(self, most: int) -> None:
        self._most = most

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        numbers = []
        for text in str(value).split(","):
            number = int(text) if text.strip().isascii() and text.strip().isdecimal() else 0
            if not 1 <= number <= self._most:
                self.fail(
                    f"{text.strip()!r} in {value!r} is not a number from 1 to {self._most}: give "
                    "numbers with commas between, such as 1,64",
                    param,
                    ctx,
                )
            numbers.append(number)
        return tuple(dict.fromkeys(numbers))


@click.command()
@target_option(DEFAULT_TARGET)
@click.option("--dataset", default="world", help="Dataset to sample from.")
@click.option(
    "--call",
    "calls",
    type=click.Choice(list(CALLS)),
    multiple=True,
    default=list(CALLS),
    help="Sample: sample() again and again, each after the answer before. SampleEpoch: the "
    "batches of epochs, which the server sends ahead. Repeatable.",
)
@click.option(
    "-k", "--k", "ks", type=_Numbers(2**20), default="1,64", help="Negatives per positive."
)
@click.option(
    "--batch-size",
    "batch_sizes",
    type=_Numbers(2**20),
    default="128,1024",
    help="Positives of one call, or of one batch.",
)
@click.option(
    "--streams",
    type=_Numbers(_MOST_STREAMS),
    default="1,4",
    help="Streams at once, each over a connection of its own.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, max=3600, min_open=True),
    default=1.0,
    help="Duration of each measurement.",
)
@click.option(
    "--kind",
    type=click.Choice([kind for kind in KINDS if kind != "mixture"]),
    default="basic",
    help="Kind of sampler, as of negserve sample.",
)
@click.option(
    "--split",
    "splits",
    type=click.Choice(list(SPLITS)),
    multiple=True,
    default=["training"],
    help="A split whose triples are never drawn. Repeatable.",
)
@click.option("--unfiltered", is_flag=True, help="Draw known triples, too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def bench(
    target: str,
    timeout: float,
    dataset: str,
    calls: tuple[Any, ...],
    ks: tuple[int, ...],
    batch_sizes: tuple[int, ...],
    streams: tuple[int, ...],
    seconds: float,
    kind: str,
    splits: tuple[str, ...],
    unfiltered: bool,
    as_json: bool,
) -> None:
    """Measure how fast a server answers here, and what bounds that.

    Each combination of --call, --k, --batch-size and --streams is measured for --seconds. The
    negatives are received and checked as trainers do it, in compact form: whole triples are not
    rebuilt. Streams are spread over as many processes as this machine has processors.

    \b
    How to read the table:
      M neg/s     millions of negatives per second, of all streams together
      p50, p99    Sample: time of one call of sample();
                  SampleEpoch: time from one message to the next; a
                  message has several batches if they are small
      round trip  share of a call's p50 that a call takes which asks for nothing:
                  the network and gRPC, however fast the server draws
      MB/s        messages received, in bytes, of all streams together
      bound by    round trip: waiting for the network, call after call
                  bandwidth: the network carries no more bytes
                  client: the processors of this machine
                  server: none of these, so drawing and encoding

    The server has to be idle otherwise, and so does this machine. Ctrl-C ends the measurements and
    prints those that are done. Other streams of the server become slower meanwhile.

    \b
    Examples:
      negserve bench --target trainer-7:7733 --dataset fb15k-237
      negserve bench --call SampleEpoch --k 64 --batch-size 1024 --streams 1,8,64
      negserve bench --k 64 --seconds 5 --json > bench.json
    """  # noqa: D301
    context = click.get_current_context()
    if unfiltered and context.get_parameter_source("splits") is not (
        click.core.ParameterSource.DEFAULT
    ):
        raise click.UsageError("--split has no effect with --unfiltered: leave one of them out")
    with needing_or_exit("negserve bench", "negserve[client]"):
        import rich  # noqa: F401
    warnings.simplefilter("ignore", LeakageWarning)  # nothing is trained
    patience = min(timeout, PATIENCE)
    arguments: dict[str, Any] = {"target": target, "timeout": timeout, "patience": patience}
    sampler = {"kind": kind, "filter_splits": () if unfiltered else splits}
    cells = [Cell(*each) for each in itertools.product(calls, ks, batch_sizes, streams)]
    measurements: list[Measurement] = []
    try:
        with Client(**arguments) as client:
            factory = client.triples_factory(dataset)
            for k in ks:
                _try(factory, k, batch_sizes, calls, sampler)
            info, trip = client.server_info(), _round_trip(client)
    except NegserveError as error:
        raise click.ClickException(printable(str(error))) from error
    with StreamWorkers(arguments, dataset, patience) as workers:
        network = Network(*trip, received=_cheap_rate(workers, factory, seconds))
        try:
            with _shown(len(cells)) as advance:
                for cell in cells:
                    measurements.append((cell, workers.run(cell, sampler, seconds)))
                    advance()
        finally:
            title = (
                f"{printable(target)}, negserve {printable(info.version)}; dataset "
                f"{printable(dataset)}, {factory.num_triples:,} triples; {kind}, "
                f"{'unfiltered' if unfiltered else 'never a triple of ' + ' or '.join(splits)}"
            )
            if as_json:
                from importlib.metadata import version  # takes as long as all other imports

                facts = {
                    "target": target,
                    "server_version": info.version,
                    "client_version": version("negserve"),
                    "dataset": dataset,
                    "fingerprint": factory.fingerprint,
                    "sampler": sampler,
                    "seconds": seconds,
                    "complete": len(measurements) == len(cells),
                }
                click.echo(json_text({**facts, **as_values(measurements, network)}))
            elif measurements:
                print_table(title, measurements, network)
            if len(measurements) < len(cells):
                click.echo(
                    f"ended after {len(measurements)} of {len(cells)} measurements", err=True
                )


def _try(
    factory: RemoteTriplesFactory, k: int, batch_sizes: tuple[int, ...], calls: tuple[str, ...],
    sampler: dict[str, Any],
) -> None:  # fmt: skip
    """Let the server refuse what it does not do before anything is measured."""
    factory.open_sampler(num_negs_per_pos=k, **sampler).close()
    if "SampleEpoch" in calls:
        config = SamplerConfig(num_negs_per_pos=k, **sampler)
        largest = EpochConfig(batch_size=max(batch_sizes), tail="wrap")
        epoch = iter(factory.epochs(config, largest, prefetch=1))
        next(epoch)
        epoch.close()  # type: ignore[attr-defined]


def _round_trip(client: Client) -> tuple[float, float, float]:
    """Return median and 99th percentile of the smallest call, and its processor time; seconds."""
    durations: list[float] = []
    cpu, begin = time.process_time(), time.perf_counter()
    while len(durations) < _ROUND_TRIPS:
        before = time.perf_counter()
        client.server_info()
        durations.append(time.perf_counter() - before)
        if (
            len(durations) >= _LEAST_ROUND_TRIPS
            and time.perf_counter() - begin >= _ROUND_TRIP_SECONDS
        ):
            break
    cpu = (time.process_time() - cpu) / len(durations)
    return statistics.median(durations), statistics.quantiles(durations, n=100)[98], cpu


def _cheap_rate(workers: StreamWorkers, factory: RemoteTriplesFactory, seconds: float) -> float:
    """Return the bytes per second of large messages that cost the server little."""
    k = min(_CHEAP_K, factory.limits.max_negatives_per_positive)
    batch_size = min(
        max(1, _CHEAP_NEGATIVES // k), factory.limits.positives_per_message(k, log_q=False)
    )
    cell = Cell("SampleEpoch", k, batch_size, 1)
    return workers.run(cell, {"kind": "basic", "filter_splits": ()}, seconds).received


@contextmanager
def _shown(total: int) -> Iterator[Callable[[], None]]:
    """Give a function that counts a measurement: a bar on a terminal, else a line now and then."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    done, next_line = 0, time.monotonic() + _LINE_SECONDS
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    is_terminal = sys.stderr.isatty()
    with Progress(*columns, console=console, transient=True, disable=not is_terminal) as progress:
        task = progress.add_task("measuring", total=total)

        def advance() -> None:
            nonlocal done, next_line
            done += 1
            progress.advance(task)
            if not is_terminal and time.monotonic() >= next_line:
                next_line = time.monotonic() + _LINE_SECONDS
                click.echo(f"measuring: {done} of {total} done", err=True)

        yield advance
