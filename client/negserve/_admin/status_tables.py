"""The status of a server as tables in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from negserve._admin.server_rates import MessageMeans, Rates
from negserve.types.checks.text import printable
from negserve.v1 import admin_pb2 as pb

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_BAR_WIDTH = 24
#: Of 64 digits, enough to tell graphs apart.
_DIGITS = 12
#: Datasets of a peer that are named.
_MOST_NAMED = 4


def status_tables(
    target: str, status: pb.GetServerStatusResponse, rates: Rates
) -> Iterator[Table | Text]:
    """Make what is shown of a server: one line, its memory, its datasets, its peers.

    :param target: its address
    """
    yield _headline(target, status)
    yield _memory(status, rates)
    yield _datasets(status, rates)
    yield peers_table(status, rates)


def _headline(target: str, status: pb.GetServerStatusResponse) -> Text:
    from rich.text import Text

    restarts = status.num_worker_restarts
    parts = [
        f"negserve {printable(status.version)} at {printable(target)}",
        f"up {timedelta(seconds=round(status.uptime_seconds))}",
        f"{status.num_workers} worker{'s' * (status.num_workers != 1)}"
        + (f", {restarts} restart{'s' * (restarts != 1)}" if restarts else ""),
    ]
    text = Text(" · ".join(parts))
    if status.is_drained:
        text.append(" · DRAINED", style="bold red")
    return text


def _memory(status: pb.GetServerStatusResponse, rates: Rates) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for what, used, limit in (
        ("tables", status.table_bytes, status.max_table_bytes),
        ("answers ahead", status.ahead_bytes, status.max_ahead_bytes),
    ):
        bar = ProgressBar(total=max(limit, 1), completed=min(used, limit), width=_BAR_WIDTH)
        table.add_row(what, bar, f"{_bytes(used)} of {_bytes(limit)}")
    table.add_row("in RAM", "", _bytes(status.resident_bytes) if status.resident_bytes else "-")
    table.add_row(
        "calls",
        "",
        f"{status.num_calls:,} open, {status.num_waiting:,} wait for room, "
        f"{status.num_queued:,} requests queued, {_rate(rates.negatives)} negatives/s",
    )
    return table


def _datasets(status: pb.GetServerStatusResponse, rates: Rates) -> Table:
    table = _table(
        "dataset", "fingerprint", "versions", "streams", "waiting", "negatives/s", "requests/s",
        "queue ms", "make ms", "negatives", "tables", num_left=2,
    )  # fmt: skip
    for each in status.datasets:
        table.add_row(
            _text(each.name),
            _text(each.fingerprint[:_DIGITS] or "not served"),
            f"{each.num_versions:,}",
            f"{each.num_streams:,}",
            f"{each.num_waiting:,}",
            _rate(rates.negatives_of.get(each.name)),
            _rate(rates.requests_of.get(each.name)),
            *_means(rates.means_of.get(each.name)),
            f"{each.num_negatives:,}",
            _bytes(each.table_bytes),
        )
    if status.num_other_datasets:
        table.add_row(_text(f"and {status.num_other_datasets:,} more"))
    return table


def peers_table(status: pb.GetServerStatusResponse, rates: Rates) -> Table:
    """Make the table of who uses the server: tokens and certificates by name, else addresses."""
    table = _table(
        "peer", "datasets", "streams", "negatives/s", "queue ms", "make ms", "negatives",
        "answers ahead", "oldest", num_left=2,
    )  # fmt: skip
    for each in status.peers:
        _add_peer(
            table,
            each.caller or each.address,
            each,
            _rate(rates.negatives_for.get((each.caller, each.address))),
            rates.means_for.get((each.caller, each.address)),
        )
    if status.num_other_peers:
        _add_peer(table, f"and {status.num_other_peers:,} more", status.other_peers, "-", None)
    return table


def _add_peer(
    table: Table, name: str, peer: pb.PeerStatus, rate: str, means: MessageMeans | None
) -> None:
    named = [f"{each.name} {each.num_streams}" for each in peer.datasets[:_MOST_NAMED]]
    if len(peer.datasets) > _MOST_NAMED:
        named.append("...")
    table.add_row(
        _text(name),
        _text(", ".join(named)),
        f"{peer.num_streams:,}",
        rate,
        *_means(means),
        f"{peer.num_negatives:,}",
        _bytes(peer.ahead_bytes),
        str(timedelta(seconds=int(peer.oldest_stream_seconds))) if peer.num_streams else "-",
    )


def _table(*columns: str, num_left: int) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        if number < num_left:
            table.add_column(column, overflow="ellipsis", no_wrap=True)
        else:
            table.add_column(column, justify="right", no_wrap=True)
    return table


def _text(value: str) -> Text:
    """Make a cell of what comes from outside: no markup, no control characters."""
    from rich.text import Text

    return Text(printable(value))


def _bytes(count: int) -> str:
    from rich.filesize import decimal

    return decimal(count)


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.0f}"


def _means(means: MessageMeans | None) -> tuple[str, str]:
    return ("-", "-") if means is None else (f"{means.queue_ms:,.2f}", f"{means.make_ms:,.2f}")
