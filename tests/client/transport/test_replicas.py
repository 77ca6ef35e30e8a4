"""Which replica a stream begins at, and what names of replicas stand for."""

from __future__ import annotations

import socket
from collections import Counter
from typing import Any

import pytest

from negserve._transport import replicas as module
from negserve._transport.names import addresses_of, name_in
from negserve._transport.replicas import Replicas

THREE = ("c:1", "a:1", "b:1")


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize(("num_ranks", "num_replicas"), [(8, 3), (1, 2), (5, 7), (64, 6)])
def test_ranks_are_spread_evenly_over_as_many_epochs_as_there_are_replicas(
    num_ranks: int, num_replicas: int
):
    replicas = Replicas([f"10.0.0.{i}:7733" for i in range(num_replicas)])
    counts = Counter(
        replicas.choose(rank + epoch) for rank in range(num_ranks) for epoch in range(num_replicas)
    )
    assert set(counts.values()) == {num_ranks}


def test_the_order_of_targets_decides_only_which_is_in_use():
    one, other = Replicas(THREE), Replicas(THREE[::-1])
    assert [one.choose(i) for i in range(4)] == ["a:1", "b:1", "c:1", "a:1"]
    assert [one.choose(i) for i in range(9)] == [other.choose(i) for i in range(9)]
    assert (one.choose(None), other.choose(None)) == ("c:1", "b:1")


def test_a_lost_replica_is_asked_again_after_pauses_that_grow(clock: Clock):
    replicas = Replicas(THREE)
    pauses = []
    for _ in range(10):
        assert replicas.choose(0) == "a:1"
        replicas.leave("a:1")
        replicas.leave("a:1")  # by another stream
        begin = clock.now
        while replicas.choose(0) != "a:1":
            assert replicas.choose(0) == "b:1"
            clock.now += 1
        pauses.append(clock.now - begin)
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300, 300]
    clock.now += 301  # it worked for so long
    replicas.leave("a:1")
    clock.now += 5
    assert replicas.choose(0) == "a:1"


def test_all_lost_replicas_are_asked_in_turn(clock: Clock):
    replicas = Replicas(THREE)
    asked = []
    for _ in range(9):
        asked.append(replicas.choose(1))
        replicas.leave(asked[-1])
        clock.now += 0.1
    assert asked == ["b:1", "c:1", "a:1"] * 3


def test_the_replica_in_use_stays_in_use_until_it_is_lost(clock: Clock):
    replicas = Replicas(THREE)
    replicas.leave("b:1")
    assert replicas.target == "c:1"
    replicas.leave("c:1")
    assert replicas.target == "a:1"
    clock.now += 1000
    assert replicas.target == "a:1"


def test_without_spreading_all_streams_begin_at_the_first_that_was_not_lost(clock: Clock):
    replicas = Replicas(THREE, spread=False)
    assert {replicas.choose(number) for number in (None, 0, 1, 2)} == {"c:1"}
    replicas.leave("c:1")
    assert {replicas.choose(number) for number in (None, 0, 1, 2)} == {"a:1"}
    replicas.leave("a:1")
    assert replicas.choose(1) == replicas.target == "b:1"
    clock.now += 5  # the first one may be back
    assert replicas.choose(1) == replicas.target == "c:1"
    replicas = Replicas(("name:7733", "a:1"), spread=False)
    replicas.note({"name:7733": ("z:1", "y:1")})
    for address in ("z:1", "y:1", "a:1"):
        assert replicas.choose(3) == address
        replicas.leave(address)


def test_a_name_stands_for_its_addresses_until_they_change():
    replicas = Replicas("name:7733")
    assert replicas.members == ("name:7733",)
    replicas.note({"name:7733": ("10.0.0.9:7733", "10.0.0.1:7733")})
    assert replicas.members == ("10.0.0.1:7733", "10.0.0.9:7733")
    assert replicas.target in replicas.members
    assert replicas.name_of("10.0.0.9:7733") == "name:7733"
    assert replicas.only("10.0.0.9:7733").members == ("10.0.0.9:7733",)
    assert replicas.only("10.0.0.9:7733").name_of("10.0.0.9:7733") == "name:7733"
    replicas.note({"name:7733": ()})
    assert replicas.members == ("name:7733",)
    assert replicas.target == "name:7733"


def test_programs_that_are_no_ranks_do_not_all_use_the_first_address():
    addresses = tuple(f"10.0.0.{i}:7733" for i in range(4))
    used = set()
    for _ in range(200):
        replicas = Replicas("name:7733")
        replicas.note({"name:7733": addresses})
        used.add(replicas.target)
    assert used == {*addresses}


def answer(*addresses: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]


V4 = [(f"10.0.0.{i}", 7733) for i in range(3)]
V6 = [(f"fd00::{i}", 7733, 0, 0) for i in range(3)]


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ([], ()),
        (V4[:1], ()),
        ([V6[0], V4[0]], ()),  # one server, over both families
        (V4[:2], ("10.0.0.0:7733", "10.0.0.1:7733")),
        (V6[:2], ("[fd00::0]:7733", "[fd00::1]:7733")),
        ([*V6[:1], *V4[:2]], ("10.0.0.0:7733", "10.0.0.1:7733")),
        ([*V6[:2], *V4[:2]], ("[fd00::0]:7733", "[fd00::1]:7733")),
        ([V4[0], V4[0], V4[1]], ("10.0.0.0:7733", "10.0.0.1:7733")),
    ],
)
def test_a_server_counts_once_whatever_its_families(addresses: Any, expected: tuple[str, ...]):
    assert addresses_of(answer(*addresses)) == expected


@pytest.mark.parametrize(
    "target",
    ["10.0.0.1:1", "[::1]:1", "[fe80::1%eth0]:1", "localhost:1", "unix:/run/x", "dns:///name:1",
     "ipv4:10.0.0.1:1,10.0.0.2:1"],
)  # fmt: skip
def test_only_names_are_looked_up(target: str):
    assert name_in(target) is None
    assert Replicas(target).next_look == float("inf")


@pytest.mark.parametrize(
    ("variables", "is_looked_up"),
    [
        ({}, True),
        ({"http_proxy": "http://proxy:1"}, False),
        ({"grpc_proxy": "http://proxy:1"}, False),
        ({"http_proxy": ""}, True),
        ({"http_proxy": "http://proxy:1", "no_proxy": "elsewhere, .svc"}, True),
        ({"http_proxy": "http://proxy:1", "no_proxy": "elsewhere"}, False),
        ({"http_proxy": "http://proxy:1", "no_proxy": "svc", "no_grpc_proxy": "x"}, False),
    ],
)
def test_a_proxy_gets_the_name(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], is_looked_up: bool
):
    for name in ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (name_in("name.svc:7733") is not None) == is_looked_up
