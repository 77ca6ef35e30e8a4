"""``negserve top``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from negserve._admin.admin_client import AdminClient
from negserve._admin.server_rates import Rates, rates_between
from negserve._admin.status_object import status_object
from negserve._admin.status_tables import status_tables
from negserve._calls.client import DEFAULT_TARGET
from negserve.cli.json_text import json_text
from negserve.errors import NegserveError, StalledError, UnavailableError
from negserve.terminal.extras import needing_or_exit
from negserve.types.checks.text import printable
from negserve.v1 import admin_pb2 as pb

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.command()
@click.argument("target", default=DEFAULT_TARGET, envvar="NEGSERVE_TARGET")
@click.option(
    "--token-file",
    envvar="NEGSERVE_ADMIN_TOKEN_FILE",
    show_envvar=True,
    type=click.Path(),
    help="File whose first token has the scope admin.  [default: NEGSERVE_TOKEN or "
    "NEGSERVE_TOKEN_FILE]",
)
@click.option(
    "--interval",
    default=2.0,
    type=click.FloatRange(min=0.1, max=3600),
    help="Seconds from one look to the next.",
)
@click.option(
    "--timeout",
    default=10.0,
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds a call may take.",
)
@click.option("--once", is_flag=True, help="Look twice, print what is found, and end.")
@click.option("--json", "as_json", is_flag=True, help="With --once: print one JSON object.")
def top(
    target: str,
    token_file: str | None,
    interval: float,
    timeout: float,
    once: bool,
    as_json: bool,
) -> None:
    """Show what the server at TARGET does, again and again, until Ctrl-C.

    \b
    Memory, datasets with their rates, and who uses them: tokens and
    certificates by name, other callers by address. TARGET is HOST:PORT or
    unix:PATH. The token must have the scope admin, and every dataset.

    Rates, and the mean milliseconds that a message of negatives waits for a thread (queue) and
    is drawn and encoded (make), are of the time since the last look. While the server can't be
    reached, as when it is started again, the last numbers stay, and it is tried again. Without a
    terminal this is --once.

    \b
    Examples:
      negserve top 127.0.0.1:7733 --token-file admin-token
      negserve top --once --json | jq '.datasets[].negatives_per_second'
    """  # noqa: D301
    if as_json and not once:
        raise click.UsageError("--json prints one object; add --once")
    if not as_json:
        with needing_or_exit("negserve top", "negserve[client]"):
            import rich  # noqa: F401
    try:
        with AdminClient(target, token_file, timeout) as client:
            if once or not sys.stdout.isatty():
                _look_once(client, target, interval, as_json)
            else:
                _look_on(client, target, interval)
    except NegserveError as error:
        raise click.ClickException(printable(str(error))) from error


def _look_once(client: AdminClient, target: str, interval: float, as_json: bool) -> None:
    before = client.status()
    time.sleep(interval)
    status = client.status()
    rates = rates_between(before, status)
    if as_json:
        click.echo(json_text(status_object(status, rates)))
        return
    from rich.console import Console

    # Wide enough for all columns where nobody looks at the width.
    width = None if sys.stdout.isatty() else 160
    Console(width=width, highlight=False).print(_page(target, status, rates))


def _look_on(client: AdminClient, target: str, interval: float) -> None:
    """Show the server until the program is interrupted.

    :raises NegserveError: if the first look fails, or the server refuses a later one
    """
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    status = client.status()
    page = _page(target, status, Rates())
    with Live(page, screen=True, auto_refresh=False) as live:
        while True:
            live.refresh()
            time.sleep(interval)
            try:
                before, status = status, client.status()
            except (UnavailableError, StalledError) as error:
                lost = Text(printable(str(error)), style="bold red")
                live.update(Group(lost, Text(""), page))
            else:
                page = _page(target, status, rates_between(before, status))
                live.update(page)


def _page(target: str, status: pb.GetServerStatusResponse, rates: Rates) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = []
    for part in status_tables(target, status, rates):
        parts += [part, Text("")]
    return Group(*parts[:-1])
