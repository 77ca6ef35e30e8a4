"""What calls have used is kept for a bounded number of datasets and peers."""

from __future__ import annotations

import pytest

from negserve_server.access import usage
from negserve_server.access.usage import CallUse, Usage, address_of


def used(counted: Usage, rpc: str = "Sample", caller: str = "", **has: object) -> CallUse:
    use = CallUse(rpc, caller, "ipv4:10.0.0.7:41000")
    use.dataset = "g"
    for name, value in has.items():
        setattr(use, name, value)
    counted.begin(use)
    return use


def test_open_and_ended_calls_are_added_up():
    counted = Usage()
    ended, opened = used(counted), used(counted)
    for use in (ended, opened):
        use.num_requests = 3
        use.drew(10, 4, 0.25, 0.5)
    counted.end(ended)
    total = counted.of_datasets()["g"]
    assert total.rpcs == {"Sample": (2, 6)}
    assert (total.num_positives, total.num_negatives) == (20, 80)
    assert total.times == (2, 0.5, 1.0)
    assert counted.total().rpcs == {"Sample": (2, 6)}
    assert counted.of_peers() == {("", "10.0.0.7"): (40, (1, 0.25, 0.5))}, (
        "without those of open calls"
    )
    assert list(counted) == [opened]


def test_a_peer_is_forgotten_a_while_after_its_last_call(monkeypatch: pytest.MonkeyPatch):
    counted = Usage()
    now = 1000.0
    monkeypatch.setattr(usage.time, "monotonic", lambda: now)
    use = used(counted, caller="a", num_negatives=5)
    counted.end(use)
    again = used(counted, caller="a")
    now += usage.KEEP_PEER_SECONDS + 1
    assert counted.of_peers() == {("a", ""): (5, (0, 0.0, 0.0))}, "it has an open call"
    counted.end(again)
    assert counted.of_peers() == {}


def test_ever_other_peers_and_datasets_take_no_more_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(usage, "_MOST_KEPT", 10)
    counted = Usage()
    for number in range(100):
        use = used(counted, caller=f"c{number}", dataset=f"d{number}", num_negatives=1)
        counted.end(use)
    assert list(counted.of_datasets()) == [f"d{number}" for number in range(90, 100)]
    assert list(counted.of_peers()) == [(f"c{number}", "") for number in range(90, 100)]
    assert counted.total().num_negatives == 100


@pytest.mark.parametrize(
    ("connection", "address"),
    [
        ("ipv4:10.0.0.7:41000", "10.0.0.7"),
        ("ipv6:%5B::1%5D:41000", "::1"),
        ("ipv6:[2001:db8::7]:41000", "2001:db8::7"),
        ("unix", "unix"),
        ("unix:", "unix"),
        ("", ""),
    ],
)
def test_addresses_have_no_port(connection: str, address: str):
    assert address_of(connection) == address
