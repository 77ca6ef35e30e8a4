"""The frozen, validated configuration of one server process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from negserve_server.config.limits import Limits
from negserve_server.config.option import check_bounds, option
from negserve_server.config.reading import Reading

#: The name of the embedded graph, given in place of a path.
WORLD = "world"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Configuration of one server process.

    The help of an option says what the field means.

    :ivar datasets: path of each dataset by name; None for the embedded graph
    :ivar reading: how the files of datasets are read
    :ivar limits: how much callers may ask for
    """

    datasets: Mapping[str, Path | None] = option(
        "NAME=PATH",
        default_factory=lambda: {WORLD: None},
        default_text="world; none with --repository",
        name="dataset",
        is_repeatable=True,
        help="A graph to serve: a file of `head<TAB>relation<TAB>tail` lines, or a folder with "
        "`train.txt`, `valid.txt` and `test.txt` and optionally `type_constraints.tsv`, also in "
        "the other formats of `docs/data.md`; or a snapshot that `negserve-server build` made. "
        "Repeatable. `world` without a path is the embedded graph.",
        see="type-constraints",
    )
    repository: Path | None = option(
        "DIR",
        help="Folder in which each folder that is a snapshot is a dataset of that name, besides "
        "those of `--dataset`. SIGHUP loads new ones, replaces changed ones and unloads those that "
        "are gone.",
        see="repository",
    )
    cache_dir: Path | None = option(
        "DIR",
        help="Folder in which graphs that were read from files are left as snapshots: the next "
        "start with equal files maps them, and reads nothing.",
        see="snapshots",
    )
    reading: Reading = field(default_factory=Reading)
    listen: tuple[str, ...] = option(
        "ADDR",
        ("127.0.0.1:7733",),
        is_repeatable=True,
        help="`HOST:PORT` (port 0 takes a free one) or `unix:PATH`. Repeatable.",
    )
    metrics_listen: str | None = option(
        "ADDR",
        default_text="off",
        help="`HOST:PORT` at which `GET /metrics` answers Prometheus (port 0 takes a free one, "
        "which the log names).",
        see="metrics",
    )
    status_page: bool = option(
        "FLAG",
        False,
        help="Show people, at `/` of `--metrics-listen`, what the server holds and does, and let "
        "them draw a few negatives. Whoever reaches that port then reads labels and triples, "
        "without a token.",
        see="status-page",
    )
    workers: int = option(
        "N",
        1,
        least=1,
        most=1024,
        help="Processes that answer at the same addresses, over the same memory. With small "
        "messages one process is busy with Python on one core, whatever `--threads` is. That "
        "option, `--max-streams`, `--max-streams-per-token`, `--max-ahead-bytes` and "
        "`--max-table-bytes` hold for all together: each worker has an equal share.",
        see="workers",
    )
    threads: int = option(
        "N",
        default_factory=lambda: os.cpu_count() or 1,
        default_text="number of cores",
        least=1,
        help="Threads that draw negatives, of all `--workers` together; each has at least one.",
    )
    limits: Limits = field(default_factory=Limits)
    drain_seconds: float = option(
        "SECONDS", 10.0, least=0, help="How long current answers may take after SIGTERM."
    )
    allow_publish: bool = option(
        "FLAG",
        False,
        help="Let clients publish graphs that they hold. Without `--token-file` whoever reaches "
        "the port can.",
        see="published-graphs",
    )
    publish_dir: Path | None = option(
        "DIR",
        help="Folder in which published graphs are kept, and from which they are served after a "
        "restart. Without it they are lost when the server ends.",
        see="published-graphs",
    )
    allow_pull: bool = option(
        "FLAG",
        False,
        help="Let clients download the snapshots of datasets, or map them if they are on the same "
        "machine, to draw negatives by themselves. They are told the path of the folder.",
        see="pulled-snapshots",
    )
    token_file: Path | None = option(
        "FILE",
        help="Answer only calls with one of the tokens in this file: one a line, or entries in "
        "TOML with names, scopes, datasets and quotas. Its changes take effect without a restart. "
        "Health checks need no token. Without the file nobody can administer the server.",
        see="tokens-and-tls",
    )
    tls_cert: Path | None = option(
        "FILE", help="Use TLS at the TCP addresses, with this certificate and its chain (PEM)."
    )
    tls_key: Path | None = option("FILE", help="Its private key (PEM, not encrypted).")
    tls_client_ca: Path | None = option(
        "FILE",
        help="Answer only clients with a certificate that one of these authorities signed (PEM).",
    )
    insecure: bool = option(
        "FLAG",
        False,
        help="Listen in plain text beyond this machine, because a proxy or a mesh does the TLS, or "
        "the network is yours alone. Without it such an address is refused at the start.",
        see="tokens-and-tls",
    )
    no_reflection: bool = option(
        "FLAG", False, help="Do not describe the services to tools that ask (gRPC reflection)."
    )
    connection_idle_seconds: float = option(
        "SECONDS",
        30.0,
        least=1,
        help="A connection without open calls for this long is closed, and one that does not "
        "complete its handshake for this long, or for 10 seconds. Clients connect again when they "
        "call.",
        see="strangers",
    )
    log_level: str = option(
        "LEVEL|FILE",
        "info",
        help="Lowest severity to log, to standard error: `debug`, `info`, `warning`, `error`; or "
        "the path of a file with one of these words, which SIGHUP reads again.",
        see="reload",
    )
    log_format: str = option(
        "text|json",
        "text",
        help="Lines of the log: text for people, or a JSON object each for programs.",
        see="json-lines",
    )
    access_log: bool = option(
        "FLAG",
        False,
        help="Log each call at its end: method, status, client, dataset, duration, messages and "
        "bytes; health checks are left out.",
        see="access-log",
    )
    tracing: bool = option(
        "FLAG",
        False,
        help="Trace calls by OpenTelemetry (extra `otel`); the variables `OTEL_*` say where spans "
        "go.",
        see="tracing",
    )

    def __post_init__(self) -> None:
        check_bounds(self)
        if not self.datasets and self.repository is None:
            raise ValueError("no dataset; give at least one, or a repository")
        if not self.listen:
            raise ValueError("no address to listen on; give at least one")
        if (self.tls_cert is None) != (self.tls_key is None):
            given, missing = ("cert", "key") if self.tls_key is None else ("key", "cert")
            raise ValueError(f"--tls-{given} without --tls-{missing}; TLS needs both, or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError(
                "--tls-client-ca without --tls-cert and --tls-key; clients present certificates "
                "only to a server with TLS"
            )
        if self.status_page and self.metrics_listen is None:
            raise ValueError(
                "--status-page without --metrics-listen; give that port, where the page is"
            )
        if self.workers > 1:
            self._check_shares()

    def _check_shares(self) -> None:
        """Refuse limits that are too small to be shared.

        :raises ValueError: naming option and remedy
        """
        shares = {
            "--max-streams": (self.limits.max_streams, 1),
            "--max-streams-per-token": (self.limits.max_streams_per_token, 1),
            "--max-table-bytes": (self.limits.max_table_bytes, 2**20),
        }
        for name, (value, least) in shares.items():
            if value // self.workers < least:
                raise ValueError(
                    f"{name} is {value}, which {self.workers} workers share; give at least "
                    f"{least * self.workers}, or fewer --workers"
                )

    def of_worker(self) -> ServerConfig:
        """Give the configuration of one worker: its share of all that all have together."""
        limits = self.limits
        streams = limits.max_streams // self.workers
        return replace(
            self,
            workers=1,
            threads=-(-self.threads // self.workers),
            limits=replace(
                limits,
                max_streams=streams,
                max_streams_per_connection=min(limits.max_streams_per_connection, streams),
                max_streams_per_token=limits.max_streams_per_token // self.workers,
                max_ahead_bytes=limits.max_ahead_bytes // self.workers,
                max_table_bytes=limits.max_table_bytes // self.workers,
            ),
        )
