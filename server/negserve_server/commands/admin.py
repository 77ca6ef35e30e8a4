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
from rich.console import Console, RenderableType

from negserve._admin.admin_client import AdminClient
from negserve._admin.server_rates import means_since_start
from negserve._admin.status_object import peer_object, status_object
from negserve._admin.status_tables import peers_table, status_tables
from negserve.errors import NegserveError
from negserve.types.checks.text import printable
from negserve.v1 import admin_pb2 as pb
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
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
]


def _server_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group()
def admin() -> None:
    """See what a running server does, change its datasets, and drain it.

    The server needs --token-file with a token of the scope admin. Datasets are loaded from its
    --repository DIR: each folder of it that is a snapshot is a dataset of that name. TLS comes from
    the environment, as for the command negserve: NEGSERVE_CA_FILE or NEGSERVE_TLS=1,
    NEGSERVE_CERT_FILE and NEGSERVE_KEY_FILE.
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


_now = click.option(
    "--now",
    is_flag=True,
    help="End the streams that use it, too, after their current answer; their trainings are told "
    "that there is no such dataset.  [default: they go on until they end]",
)


@admin.command()
@_server_options
@_now
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def unload(names: tuple[str, ...], now: bool, as_json: bool, **server: Any) -> None:
    """Stop to serve each dataset NAME of the repository.

    New calls are told that there is no such dataset. Open streams go on, and its memory is free
    when the last of them has ended, unless --now ends them. It is served again after the next load,
    reload or start, unless its folder is gone.
    """
    _drop(names, pb.DATASET_ORIGIN_REPOSITORY, now, as_json, server)


@admin.command()
@_server_options
@_now
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def remove(names: tuple[str, ...], now: bool, as_json: bool, **server: Any) -> None:
    """Remove each graph NAME that a client has published, from memory and from --publish-dir.

    New calls are told that there is no such dataset. Open streams go on, and its memory is free
    when the last of them has ended, unless --now ends them. Its file is removed at once. A client
    that holds the graph may publish it again: take the scope publish from its token to prevent it.

    \b
    Examples:
      negserve-server admin remove fb15k-237
      negserve-server admin remove fb15k-237 --now
    """  # noqa: D301
    _drop(names, pb.DATASET_ORIGIN_PUBLISHED, now, as_json, server)


def _drop(
    names: tuple[str, ...],
    origin: pb.DatasetOrigin.ValueType,
    now: bool,
    as_json: bool,
    server: dict[str, Any],
) -> None:
    answers = []
    with _calling(server) as client:
        for name in names:
            answer = client.unload(name, origin, end_streams=now)
            answers.append(answer)
            if not as_json:
                _print_change(answer.change, _fate(answer.num_streams, now))
    if as_json:
        found = _objects([each.change for each in answers])
        counts = (each.num_streams for each in answers)
        click.echo(
            json.dumps(
                [
                    {**change, "num_streams": count}
                    for change, count in zip(found, counts, strict=True)
                ]
            )
        )


def _fate(num_streams: int, now: bool) -> str:
    if not num_streams:
        return "no stream used it"
    what = f"{num_streams} stream{'s' * (num_streams != 1)}"
    return f"{what} ended" if now else f"{what} still using it: --now would have ended them"


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


@admin.command()
@_server_options
def status(as_json: bool, **server: Any) -> None:
    """Print what the server holds now: memory, datasets, and who uses them.

    \b
    tables         arrays that samplers share, and their limit
    answers ahead  answers that clients have not taken yet, and their limit
    in RAM         memory of all processes; what workers share counts once
    versions       graphs of that name in memory: earlier ones, too, while
                   streams use them
    queue ms,      mean milliseconds since the start that a message of negatives
    make ms        waits for a thread, and is drawn and encoded
    negatives      drawn since the start; a worker that ends takes its count
                   with it

    With --json one object, whose fields docs/operations.md lists. `negserve top` shows the same
    again and again, with rates.
    """  # noqa: D301
    with _calling(server) as client:
        found = client.status()
    if as_json:
        _echo_object(status_object(found, means_since_start(found)))
        return
    _print_tables(status_tables(server["target"], found, means_since_start(found)))


@admin.command()
@_server_options
def peers(as_json: bool, **server: Any) -> None:
    """List who uses the server, most open streams first: at most 200, the others summed up.

    A peer is a token or a client's certificate by its name, and for callers without one their
    address. Who has no open stream is listed for 60 seconds after the last one that has drawn
    negatives.
    """
    with _calling(server) as client:
        found = client.status()
    if as_json:
        click.echo(printable(json.dumps(list(map(peer_object, found.peers)), ensure_ascii=False)))
        return
    _print_tables([peers_table(found, means_since_start(found))])


@admin.command()
@_server_options
def drain(as_json: bool, **server: Any) -> None:
    """Take the server out of service; the process stays until it is ended.

    Health says NOT_SERVING, so that a load balancer sends nobody. New calls are refused, and open
    streams end after their current answer, as at SIGTERM: trainings continue on another replica, or
    wait for this one as long as their patience lasts. Graphs that are being built are completed.
    Administrators' calls and health are still answered. To end the process, send SIGTERM; to take
    it back into service: negserve-server admin resume.
    """
    with _calling(server) as client:
        num_streams = client.drain()
    if as_json:
        _echo_object({"num_streams": num_streams})
        return
    click.echo(f"drained: {num_streams} stream{'s' * (num_streams != 1)} end; see admin status")


@admin.command()
@_server_options
def resume(as_json: bool, **server: Any) -> None:
    """Take a drained server back into service."""
    with _calling(server) as client:
        was_drained = client.resume()
    if as_json:
        _echo_object({"was_drained": was_drained})
        return
    click.echo("back in service" if was_drained else "it was in service")


def _echo_object(found: dict[str, Any]) -> None:
    click.echo(printable(json.dumps(found, ensure_ascii=False)))


def _print_tables(tables: Iterable[RenderableType]) -> None:
    # Wide enough for all columns where nobody looks at the width.
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    for number, table in enumerate(tables):
        if number:
            console.print()
        console.print(table)


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
                _print_change(change, change.problem)
    if as_json:
        _print_json(changes)
    return changes


def _print_change(change: pb.DatasetChange, note: str) -> None:
    action = pb.DatasetAction.Name(change.action).removeprefix("DATASET_ACTION_")
    served = change.fingerprint or "not served"
    line = f"{change.name:<22} {action.lower():<10} {served}  {note}"
    click.echo(printable(line.rstrip()))


@contextmanager
def _calling(server: dict[str, Any]) -> Iterator[AdminClient]:
    end_at_sighup()
    try:
        with AdminClient(**server) as client:
            yield client
    except NegserveError as error:
        raise click.ClickException(printable(str(error))) from error


def _print_json(messages: Sequence[Message]) -> None:
    click.echo(json.dumps(_objects(messages)))


def _objects(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [
        json_format.MessageToDict(
            each, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for each in messages
    ]
