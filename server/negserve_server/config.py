"""What a server serves and where: its frozen, validated configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from negserve_server.service import Limits

DEFAULT_LISTEN = "127.0.0.1:7733"

#: The name of the embedded graph, and what stands for it in place of a path.
WORLD = "world"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Configuration of one server process.

    :ivar datasets: path of each dataset by name; None for the embedded graph
    :ivar listen: addresses, ``HOST:PORT`` (port 0 for a free one) or ``unix:PATH``
    :ivar limits: what callers may ask for
    :ivar drain_seconds: how long answers under way may take after SIGTERM
    :ivar threads: threads for the engine
    :ivar allow_publish: whether clients may publish graphs
    :ivar publish_dir: folder in which those survive a restart; None to forget them
    :ivar token_file: file of the tokens that callers need, see
        :class:`negserve_server.service.Tokens`; None to ask for none
    :ivar tls_cert: file of the certificate, with its chain, of the TCP addresses; None for no TLS
    :ivar tls_key: file of its private key
    :ivar tls_client_ca: file of the authorities, one of which must have signed the certificate
        of a client; None to ask clients for none
    """

    datasets: Mapping[str, Path | None] = field(default_factory=lambda: {WORLD: None})
    listen: tuple[str, ...] = (DEFAULT_LISTEN,)
    limits: Limits = field(default_factory=Limits)
    drain_seconds: float = 10.0
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    allow_publish: bool = False
    publish_dir: Path | None = None
    token_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None

    def __post_init__(self) -> None:
        if not self.datasets:
            raise ValueError("no dataset; give at least one")
        if not self.listen:
            raise ValueError("no address to listen on; give at least one")
        if self.threads < 1:
            raise ValueError(f"threads={self.threads}; give at least 1")
        if (self.tls_cert is None) != (self.tls_key is None):
            given, missing = ("cert", "key") if self.tls_key is None else ("key", "cert")
            raise ValueError(f"--tls-{given} without --tls-{missing}; TLS needs both, or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError(
                "--tls-client-ca without --tls-cert and --tls-key; clients show certificates only "
                "where the server has TLS"
            )
