"""The server warns of an address that is open to strangers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from negserve_server.config.server_config import ServerConfig
from negserve_server.process.reloading import Reloading
from negserve_server.serving.server import Server
from tests.support.certificates import Authority


@pytest.fixture
def reloading() -> Iterator[Reloading]:
    before = signal.getsignal(signal.SIGHUP)
    yield Reloading()
    signal.signal(signal.SIGHUP, before)


ANYBODY = "answers everybody who reaches it"
PUBLISH = "EVERYBODY CAN PUBLISH"
PLAIN = "takes tokens in plain text"


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "127.0.0.1:0", "unix"])
@pytest.mark.parametrize("allow_publish", [False, True])
@pytest.mark.parametrize("guard", ["nothing", "token", "token and TLS", "certificates", "TLS"])
def test_an_open_address_is_warned_of(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    reloading: Reloading,
    listen: str,
    allow_publish: bool,
    guard: str,
):
    tokens = tmp_path / "tokens"
    tokens.write_text("0123456789abcdef")
    authority = Authority(tmp_path)
    cert, key = map(Path, authority.issue("127.0.0.1"))
    tls = {"tls_cert": cert, "tls_key": key}
    options: dict[str, Path] = {
        "nothing": {},
        "token": {"token_file": tokens},
        "token and TLS": {"token_file": tokens, **tls},
        "certificates": {**tls, "tls_client_ca": Path(authority.ca)},
        "TLS": tls,
    }[guard]  # type: ignore[assignment]
    address = f"unix:{tmp_path}/socket" if listen == "unix" else listen
    try:
        Server(
            ServerConfig(listen=(address,), allow_publish=allow_publish, **options),  # type: ignore[arg-type]
            reloading,
        )
    except OSError as error:
        if listen == "[::]:0":
            pytest.skip(f"this machine has no IPv6: {error}")
        raise
    is_open = listen in {"0.0.0.0:0", "[::]:0"}
    assert (ANYBODY in caplog.text) == (is_open and guard in {"nothing", "TLS"})
    assert (PUBLISH in caplog.text) == (is_open and guard in {"nothing", "TLS"} and allow_publish)
    assert (PLAIN in caplog.text) == (is_open and guard == "token")
