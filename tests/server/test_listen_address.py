"""A malformed address is refused with its fault, before any graph is loaded."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from negserve_server.errors import UnusableAddress
from negserve_server.listen_address import parse_listen_address
from tests.server.test_app import run

MALFORMED = {
    "127.0.0.1:99999": "the port '99999' is none; give 1 to 65535",
    "127.0.0.1:-1": "the port '-1' is none",
    "127.0.0.1:http": "the port 'http' is none",
    "127.0.0.1:": "the port '' is none",
    "127.0.0.1:٧٧": "the port '٧٧' is none",
    "7733": "there is no host; give HOST:PORT",
    ":7733": "there is no host; give 127.0.0.1:7733",
    "localhost": "there is no port",
    "[::1]": "there is no port",
    "::1:7733": "an IPv6 address has brackets",
    "[localhost]:7733": "what is in the brackets is no IPv6 address",
    "http://0.0.0.0:7733/": "that is a URL; give its address alone, 0.0.0.0:7733",
    "unix:": "there is no path",
    "unix:/" + "x" * 120: "the path has 121 bytes; the most for a unix socket are 107",
}


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed_addresses_are_refused(text: str):
    with pytest.raises(UnusableAddress) as caught:
        parse_listen_address(text)
    assert str(caught.value).startswith(f"can't listen on {text}: ")
    assert MALFORMED[text] in str(caught.value)


@pytest.mark.parametrize(
    ("text", "is_local"),
    [
        ("127.0.0.1:7733", True),
        ("localhost:0", True),
        ("[::1]:7733", True),
        ("unix:/run/negserve.sock", True),
        ("unix:negserve.sock", True),
        ("unix:///run/negserve.sock", True),
        ("0.0.0.0:7733", False),
        ("[::]:7733", False),
        ("10.0.0.7:65535", False),
        ("server.example:7733", False),
    ],
)
def test_legal_addresses_are_parsed(text: str, is_local: bool):
    address = parse_listen_address(text)
    assert address.is_local == is_local
    assert bool(address.path) == text.startswith("unix:")


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_free_address_is_accepted(tmp_path: Path):
    for text in ("127.0.0.1:0", "localhost:0", f"unix:{tmp_path}/socket"):
        parse_listen_address(text).check()


def why_not(text: str) -> str:
    with pytest.raises(UnusableAddress) as caught:
        parse_listen_address(text).check()
    return caught.value.why


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("127.0.0.1:1", "127.0.0.1:1", True),
        ("127.0.0.1:1", "0.0.0.0:1", True),
        ("[::]:1", "127.0.0.1:1", True),
        ("unix:/a", "unix:/a", True),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("127.0.0.1:1", "127.0.0.1:2", False),
        ("127.0.0.1:1", "127.0.0.2:1", False),
        ("unix:/a", "unix:/b", False),
        ("unix:/a", "0.0.0.0:1", False),
    ],
)
def test_addresses_may_overlap(one: str, other: str, expected: bool):
    first, second = map(parse_listen_address, (one, other))
    assert first.overlaps(second) == second.overlaps(first) == expected


def test_each_cause_has_its_own_message(tmp_path: Path, taken: int):
    for host in ("127.0.0.1", "localhost", "0.0.0.0"):
        assert f"another process has port {taken}" in why_not(f"{host}:{taken}")
    assert "203.0.113.7 is no address of this machine" in why_not("203.0.113.7:7733")
    assert "'no.such.host.invalid' can't be resolved" in why_not("no.such.host.invalid:7733")
    assert why_not(f"unix:{tmp_path}/a/b") == f"the folder {tmp_path}/a does not exist; make it"
    (tmp_path / "file").touch()
    assert f"{tmp_path}/file is no folder" in why_not(f"unix:{tmp_path}/file/b")
    assert f"{tmp_path}/file is there, and is no socket" in why_not(f"unix:{tmp_path}/file")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        parse_listen_address(f"unix:{tmp_path}/socket").check()  # nobody answers
        listener.listen()
        assert "another process listens there" in why_not(f"unix:{tmp_path}/socket")


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """A folder that everybody may list, and nobody may write to."""
    with TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        folder = Path(parent) / "closed"
        folder.mkdir(mode=0o555)
        yield folder


def test_missing_permissions_are_named(closed_folder: Path):
    program = (
        "import encodings.idna, os, sys\n"
        "from negserve_server.listen_address import parse_listen_address\n"
        "os.setuid(65534) if os.geteuid() == 0 else None\n"
        "for text in sys.argv[1:]:\n"
        "    try: parse_listen_address(text).check()\n"
        "    except OSError as error: print(error)\n"
        "    else: print('fine')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, f"unix:{closed_folder}/socket", "127.0.0.1:1"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    folder_said, port_said = result.stdout.splitlines()
    assert f"may not write to the folder {closed_folder}" in folder_said
    first_free = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    expected = "fine" if first_free <= 1 else "may not listen on port 1; give one above 1023"
    assert expected in port_said


@pytest.mark.parametrize(
    "options",
    [
        ("--listen", "7733"),
        ("--listen", "127.0.0.1:99999"),
        ("--listen", "unix:/no/such/folder/socket"),
        ("--listen", "127.0.0.1:TAKEN"),
        ("--listen", "127.0.0.1:7744", "--listen", "127.0.0.1:7744"),
        ("--listen", "unix:socket", "--listen", "unix:socket"),
        ("--token-file", "/no/such/tokens"),
        ("--tls-cert", "/no/such/cert", "--tls-key", "/no/such/key"),
        ("--dataset", "x=/no/such/graph"),
    ],
)
def test_no_graph_is_loaded_before(taken: int, tmp_path: Path, options: tuple[str, ...]):
    """A graph that would never finish loading: a pipe that nobody writes to."""
    os.mkfifo(tmp_path / "train.txt")
    options = tuple(option.replace("TAKEN", str(taken)) for option in options)
    listen = () if "--listen" in options else ("--listen", "127.0.0.1:0")
    result = run("serve", "--dataset", f"slow={tmp_path}", *listen, *options)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "another server" not in result.stderr
