"""Malformed addresses are refused at once, and the error names the fault."""

from __future__ import annotations

import os
from typing import Any

import pytest

from negserve import Client, InvalidRequestError, aio
from negserve.data import TripleStream
from tests.support import preloaded

WRONG = {
    "http://127.0.0.1:7733": "this is a URL; give its address alone, '127.0.0.1:7733'",
    "https://negserve.example/": "this is a URL; give its address alone, 'negserve.example'",
    "grpc://127.0.0.1:7733/world": "this is a URL; give its address alone, '127.0.0.1:7733'",
    "": "target is empty",
    " 127.0.0.1:7733": "has a blank",
    "127.0.0.1:7733\n": "has a blank or a control character",
    "a:1 b:2": "several targets are a list",
    "7733": "no host",
    ":7733": "no host",
    "localhost": "no port",
    "[::1]": "no port",
    "::1:7733": "an IPv6 address needs brackets",
    "[localhost]:7733": "the text in brackets is not an IPv6 address",
    "127.0.0.1:99999": "invalid port '99999'; give 1 to 65535",
    "127.0.0.1:0": "invalid port '0'",
    "127.0.0.1:": "invalid port ''",
    "127.0.0.1:-1": "invalid port '-1'",
    "127.0.0.1:http": "invalid port 'http'",
    "127.0.0.1:٧٧٣٣": "invalid port '٧٧٣٣'",
    "127.0.0.1:" + "9" * 9999: "invalid port",
    "127.0.0.1/x:7733": "a TCP address has no path",
    "unix:": "no path",
    "unix:/" + "x" * 120: "the path has 121 bytes, the limit for a unix socket is 107",
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
def test_a_malformed_target_is_refused_at_once(make: Any, target: str):
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
def test_targets_that_grpc_can_reach_are_accepted(target: str):
    assert Client(target).targets == (target,)


@pytest.mark.parametrize("by_environment", [False, True])
def test_the_command_says_so_without_waiting(by_environment: bool):
    command = ["-m", "negserve.cli", "info"]
    target = "http://127.0.0.1:7733"

    result = preloaded.run(
        command if by_environment else [*command, "--target", target, "--timeout", "1000"],
        env={**os.environ, "NEGSERVE_TARGET": target if by_environment else ""},
        timeout=60,
    )
    assert result.returncode == 1
    assert "this is a URL; give its address alone, '127.0.0.1:7733'" in result.stderr
    assert "Traceback" not in result.stderr
