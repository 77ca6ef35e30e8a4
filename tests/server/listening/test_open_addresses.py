"""The server refuses, or warns of, an address that is open to strangers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from negserve_server.config.server_config import ServerConfig
from negserve_server.errors import InsecureAddress
from negserve_server.process.reloading import Reloading
from negserve_server.serving.server import Server
from tests.server.test_app import run
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
            ServerConfig(
                listen=(address,),
                allow_publish=allow_publish,
                insecure=True,
                **options,  # type: ignore[arg-type]
            ),
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


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "127.0.0.1:0", "unix"])
@pytest.mark.parametrize("guard", ["nothing", "token", "TLS", "said"])
def test_plain_text_beyond_this_machine_has_to_be_said(
    tmp_path: Path, reloading: Reloading, listen: str, guard: str
):
    tokens = tmp_path / "tokens"
    tokens.write_text("0123456789abcdef")
    cert, key = map(Path, Authority(tmp_path).issue("127.0.0.1"))
    options: dict[str, Any] = {
        "nothing": {},
        "token": {"token_file": tokens},
        "TLS": {"tls_cert": cert, "tls_key": key},
        "said": {"insecure": True},
    }[guard]
    address = f"unix:{tmp_path}/socket" if listen == "unix" else listen
    config = ServerConfig(listen=(address,), **options)
    if listen == "0.0.0.0:0" and guard in {"nothing", "token"}:
        with pytest.raises(InsecureAddress, match=r"can't listen on 0\.0\.0\.0:0: .*--insecure if"):
            Server(config, reloading)
    else:
        Server(config, reloading)


def test_the_refusal_ends_the_start():
    result = run("serve", "--listen", "0.0.0.0:0")
    assert result.returncode == 1
    assert "can't listen on 0.0.0.0:0" in result.stderr
    assert "--tls-cert and --tls-key" in result.stderr
    assert "listening" not in result.stdout
