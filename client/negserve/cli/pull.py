"""``negserve pull``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from negserve._calls.client import DEFAULT_TARGET
from negserve._sync.client import Client
from negserve.errors import NegserveError
from negserve.terminal.target_option import target_option
from negserve.types.checks.text import printable

#: Interval of lines about a download, where there is no terminal.
_LINE_SECONDS = 5.0


@click.command()
@target_option(DEFAULT_TARGET)
@click.argument("dataset")
@click.argument("directory", type=click.Path(path_type=Path))
def pull(target: str, timeout: float, dataset: str, directory: Path) -> None:
    """Download the snapshot of DATASET to DIRECTORY.

    The server must run with --allow-pull. If it is interrupted, the same command continues. Nothing
    is done if the snapshot is there already.

    \b
    Examples:
      negserve pull fb15k-237 graphs/fb15k-237
      negserve-server serve --dataset fb=graphs/fb15k-237
    """  # noqa: D301
    shown = _Arriving(dataset)
    try:
        with Client(target, timeout=timeout, patience=timeout) as client, shown:
            folder = client.pull(dataset, directory, on_bytes=shown.report)
    except NegserveError as error:
        raise click.ClickException(printable(str(error))) from error
    click.echo(f"{dataset}: {folder}")


class _Arriving:
    """Shows how much of a download has arrived: a bar on a terminal, else a line now and then."""

    def __init__(self, dataset: str) -> None:
        self._label = f"pulling {dataset}"
        self._bar: Any = None
        self._next_line = time.monotonic() + _LINE_SECONDS

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.render_finish()

    def report(self, arrived: int, total: int) -> None:
        """Show that so many bytes of so many have arrived."""
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = click.progressbar(length=total, label=self._label, file=sys.stderr)
            self._bar.update(arrived - self._bar.pos)
        elif time.monotonic() >= self._next_line or arrived == total:
            self._next_line = time.monotonic() + _LINE_SECONDS
            click.echo(f"{self._label}: {arrived:,} of {total:,} bytes", err=True)
