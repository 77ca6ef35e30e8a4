"""The commands ``negserve-server admin ...``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from google.protobuf import json_format
from google.protobuf.message import Message

from negserve.errors import NegserveError
from negserve.types.checks.text import printable
from negserve.v1 import admin_pb2 as pb
from negserve_server.administration.admin_client import AdminClient
from negserve_server.process.command import end_at_sighup

_DEFAULT_TARGET = "127.0.0.1:7733"

_OPTIONS = [
    click.option(
        "--target",
        default=_DEFAULT_TARGET,
        envvar="NEGSERVE_TARGET",
        show_envvar=True,
        help="Address of the server: HOST:PORT or unix:PATH.",
    ),
    click.option(
        "--token-file",
        required=True,
        envvar="NEGSERVE_ADMIN_TOKEN_FILE",
        show_envvar=True,
        type=click.Path(),
        help="File whose first token has the scope admin in the server's --token-file.",
    ),
    click.option(
        "--timeout",
        default=600.0,
        type=click.FloatRange(min=0, min_open=True),
        help="Seconds that the call may take; the server completes a change in any case.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON list."),
]


def _server_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group()
def admin() -> None:
    """Load, replace and unload the datasets of a running server.

    The server needs --repository DIR, each folder of which that is a snapshot is a dataset of that
    name, and --token-file with a token of the scope admin. TLS comes from the environment, as for
    the command negserve: NEGSERVE_CA_FILE or NEGSERVE_TLS=1, NEGSERVE_CERT_FILE and
    NEGSERVE_KEY_FILE.
    """


@admin.command()
@_server_options
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def load(names: tuple[str, ...], as_json: bool, **server: Any) -> None:
    """Load each dataset NAME from the repository, or replace it by what is there now.

    New streams get the new graph, open ones end on theirs. If a snapshot can't be used, the exit
    status is 1, and what was served before still is.
    """
    _change(lambda client: map(client.load, names), as_json, server)


@admin.command()
@_server_options
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def unload(names: tuple[str, ...], as_json: bool, **server: Any) -> None:
    """Stop to serve each dataset NAME, of the repository or published; open streams go on.

    One of the repository is served again after the next reload or start, unless its folder is gone.
    """
    _change(lambda client: map(client.unload, names), as_json, server)


@admin.command()
@_server_options
def reload(as_json: bool, **server: Any) -> None:
    """Serve what is in the repository: load new datasets, replace changed ones, unload others.

    SIGHUP does the same. The exit status is 1 if one of them can't be used.
    """
    changes = _change(lambda client: client.reload(), as_json, server)
    if any(change.action == pb.DATASET_ACTION_FAILED for change in changes):
        sys.exit(1)


@admin.command("list")
@_server_options
def list_(as_json: bool, **server: Any) -> None:
    """List the graphs in memory: those served, and earlier ones that streams still use."""
    with _calling(server) as client:
        versions = client.versions()
    if as_json:
        _print_json(versions)
        return
    for version in versions:
        origin = pb.DatasetOrigin.Name(version.origin).removeprefix("DATASET_ORIGIN_")
        state = "current" if version.is_current else "earlier"
        click.echo(
            f"{version.name:<22} {state}  {version.fingerprint}  {version.num_triples:>13,} "
            f"triples  {version.num_streams:>4} streams  {origin.lower().replace('_', ' ')}"
        )


def _change(
    make: Callable[[AdminClient], Iterable[pb.DatasetChange]],
    as_json: bool,
    server: dict[str, Any],
) -> list[pb.DatasetChange]:
    """Make changes, and print each as it is made: a later one may fail."""
    changes = []
    with _calling(server) as client:
        for change in make(client):
            changes.append(change)
            if not as_json:
                action = pb.DatasetAction.Name(change.action).removeprefix("DATASET_ACTION_")
                served = change.fingerprint or "not served"
                line = f"{change.name:<22} {action.lower():<10} {served}  {change.problem}"
                click.echo(printable(line.rstrip()))
    if as_json:
        _print_json(changes)
    return changes


@contextmanager
def _calling(server: dict[str, Any]) -> Iterator[AdminClient]:
    end_at_sighup()
    try:
        with AdminClient(**server) as client:
            yield client
    except NegserveError as error:
        raise click.ClickException(printable(str(error))) from error


def _print_json(messages: Sequence[Message]) -> None:
    found = [
        json_format.MessageToDict(
            each, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for each in messages
    ]
    click.echo(json.dumps(found))
