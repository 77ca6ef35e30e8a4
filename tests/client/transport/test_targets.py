"""Addresses that no server can have are refused at once, and the error names what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from negserve import Client, InvalidRequestError, aio
from negserve.data import TripleStream

WRONG = {
    "http://127.0.0.1:7733": "is a URL; give its address alone, '127.0.0.1:7733'",
    "https://negserve.example/": "is a URL; give its address alone, 'negserve.example'",
    "grpc://127.0.0.1:7733/world": "is a URL; give its address alone, '127.0.0.1:7733'",
    "": "target is empty",
    " 127.0.0.1:7733": "has a blank",
    "127.0.0.1:7733\n": "has a blank or a control character",
    "a:1 b:2": "several targets are a list",
    "7733": "has no host",
    ":7733": "has no host",
    "localhost": "has no port",
    "[::1]": "has no port",
    "::1:7733": "an IPv6 address without brackets; give [::1]:7733",
    "[localhost]:7733": "has no IPv6 address in its brackets",
    "127.0.0.1:99999": "has the port '99999'; give 1 to 65535; the default of a server is 7733",
    "127.0.0.1:0": "has the port '0'; give 1 to 65535",
    "127.0.0.1:": "has the port ''; give 1 to 65535",
    "127.0.0.1:-1": "has the port '-1'; give 1 to 65535",
    "127.0.0.1:http": "has the port 'http'; give 1 to 65535",
    "127.0.0.1:٧٧٣٣": "has the port '٧٧٣٣'; give 1 to 65535",
    "127.0.0.1:" + "9" * 9999: "the port",
    "127.0.0.1/x:7733": "has a path",
    "unix:": "has no path",
    "unix:/" + "x" * 120: "has a path of 121 bytes; a unix socket takes at most 107",
}


@pytest.mark.parametrize("target", WRONG)
@pytest.mark.parametrize(
    "make",
    [
        Client,
        aio.Client,
        lambda target: Client(["127.0.0.1:7733", target]),
        lambda target: TripleStream(target, "world", rank=0, world_size=1),
    ],
)
def test_it_is_refused_at_once(make: Any, target: str):
    with pytest.raises(InvalidRequestError) as caught:
        make(target)
    assert WRONG[target] in str(caught.value)


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:7733",
        "localhost:1",
        "[::1]:65535",
        "[fe80::1%eth0]:7733",
        "server_1.example-org:7733",
        "dns:7733",
        "dns:server:7733",
        "dns:///server:7733",
        "ipv4:127.0.0.1:1,127.0.0.1:2",
        "ipv6:[::1]:7733",
        "unix:/run/negserve.sock",
        "unix:negserve.sock",
        "unix:///run/negserve.sock",
        "unix-abstract:negserve",
    ],
)
def test_what_grpc_can_reach_is_taken(target: str):
    assert Client(target).targets == (target,)


@pytest.mark.parametrize("by_environment", [False, True])
def test_the_command_says_so_without_waiting(by_environment: bool):
    command = [sys.executable, "-m", "negserve.cli", "info"]
    target = "http://127.0.0.1:7733"

    result = subprocess.run(
        command if by_environment else [*command, "--target", target, "--timeout", "1000"],
        env={**os.environ, "NEGSERVE_TARGET": target if by_environment else ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 1
    assert "is a URL; give its address alone, '127.0.0.1:7733'" in result.stderr
    assert "Traceback" not in result.stderr
