"""How the status of a server is shown: rates, and text that comes from outside."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from negserve._admin.server_rates import Rates, means_since_start, rates_between
from negserve._admin.status_object import status_object
from negserve._admin.status_tables import status_tables
from negserve.v1 import admin_pb2 as pb


def status(
    uptime: float = 10.0, negatives: int = 0, **fields: object
) -> pb.GetServerStatusResponse:
    return pb.GetServerStatusResponse(
        **{  # type: ignore[arg-type]
            "uptime_seconds": uptime,
            "datasets": [
                {
                    "name": "g",
                    "fingerprint": "ab" * 32,
                    "num_negatives": negatives,
                    "rpcs": [{"rpc": "Sample", "num_calls": 1, "num_requests": negatives // 10}],
                }
            ],
            "peers": [{"caller": "a", "num_streams": 1, "num_negatives": negatives}],
            **fields,
        }
    )


def shown(found: pb.GetServerStatusResponse, rates: Rates = Rates()) -> str:  # noqa: B008
    console = Console(file=io.StringIO(), width=160, force_terminal=True, color_system=None)
    for each in status_tables("127.0.0.1:7733", found, rates):
        console.print(each)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_rates_are_those_between_two_looks():
    rates = rates_between(status(10, 1000), status(14, 9000))
    assert rates.negatives == 2000
    assert rates.negatives_of == {"g": 2000}
    assert rates.requests_of == {"g": 200}
    assert rates.negatives_for == {("a", ""): 2000}
    assert "2,000" in shown(status(14, 9000), rates)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (None, status(10, 1000)),
        (status(50, 1000), status(1, 5)),  # the server was started again
        (status(10, 1000), status(12, 500)),  # a worker has ended
        (status(10, 0, datasets=[], peers=[]), status(12, 500)),  # nobody knows since when
    ],
)
def test_a_rate_that_is_not_known_is_none(
    before: pb.GetServerStatusResponse | None, now: pb.GetServerStatusResponse
):
    rates = rates_between(before, now)
    assert rates.negatives is None
    assert rates.negatives_of.get("g") is None
    found = json.loads(json.dumps(status_object(now, rates)))
    assert found["negatives_per_second"] is None
    assert found["datasets"][0]["negatives_per_second"] is None


def timed(
    uptime: float, num_messages: int, queue_seconds: float, make_seconds: float
) -> pb.GetServerStatusResponse:
    times = {
        "num_messages": num_messages,
        "queue_seconds": queue_seconds,
        "make_seconds": make_seconds,
    }
    return status(uptime, datasets=[{"name": "g", **times}], peers=[{"caller": "a", **times}])


def test_means_are_those_of_the_messages_between_two_looks():
    before, now = timed(10, 100, 5.0, 50.0), timed(12, 104, 5.25, 50.5)
    rates = rates_between(before, now)
    assert rates.means_of == {"g": (62.5, 125.0)}
    assert rates.means_for == {("a", ""): (62.5, 125.0)}
    rows = [line.split() for line in shown(now, rates).splitlines()]
    assert [row[8:10] for row in rows if row[:2] == ["g", "not"]] == [["62.50", "125.00"]]
    assert [row[3:5] for row in rows if row[:1] == ["a"]] == [["62.50", "125.00"]]
    found = json.loads(json.dumps(status_object(now, rates)))
    for each in (*found["datasets"], *found["peers"]):
        assert (each["queue_ms_per_message"], each["make_ms_per_message"]) == (62.5, 125.0)
    assert means_since_start(before).means_of == {"g": (50.0, 500.0)}
    assert means_since_start(before).negatives_of == {}


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (timed(10, 100, 5.0, 50.0), timed(12, 100, 5.0, 50.0)),  # no message
        (timed(10, 100, 5.0, 50.0), timed(12, 40, 2.0, 20.0)),  # a worker has ended
        (timed(10, 100, 5.0, 50.0), timed(12, 101, 2.0, 50.5)),  # likewise, another was busy
        (timed(50, 100, 5.0, 50.0), timed(1, 101, 5.5, 50.5)),  # the server was started again
    ],
)
def test_a_mean_that_is_not_known_is_a_dash_and_null(
    before: pb.GetServerStatusResponse, now: pb.GetServerStatusResponse
):
    rates = rates_between(before, now)
    rows = [line.split() for line in shown(now, rates).splitlines()]
    assert [row[8:10] for row in rows if row[:2] == ["g", "not"]] == [["-", "-"]]
    found = json.loads(json.dumps(status_object(now, rates)))
    for each in (*found["datasets"], *found["peers"]):
        assert each["queue_ms_per_message"] is each["make_ms_per_message"] is None


def test_names_from_outside_move_no_cursor_and_are_no_markup():
    hostile = "CN=\x1b[2J\u202e[red]evil[/red]\r\n"
    text = shown(
        status(
            peers=[{"caller": hostile, "datasets": [{"name": "\x07g", "num_streams": 1}]}],
            datasets=[{"name": "\x1b]0;title\x07", "fingerprint": "\x9b31m"}],
            version="\x1b[31m1",
        )
    )
    assert not set(text) & set("\x1b\x07\x9b\r\u202e")
    assert "[red]evil[/red]" in text


def test_numbers_of_json_are_numbers_however_large():
    found = json.loads(json.dumps(status_object(status(negatives=2**60), Rates())))
    assert found["datasets"][0]["num_negatives"] == 2**60
    assert found["datasets"][0]["rpcs"] == {"Sample": {"num_calls": 1, "num_requests": 2**60 // 10}}
    assert set(found) == {
        *(field.name for field in pb.GetServerStatusResponse.DESCRIPTOR.fields),
        "negatives_per_second",
    }


def test_what_is_left_out_is_said():
    text = shown(
        status(num_other_peers=3, other_peers={"num_negatives": 7}, num_other_datasets=1234)
    )
    assert "and 3 more" in text
    assert "and 1,234 more" in text
    assert "DRAINED" not in text
    assert "DRAINED" in shown(status(is_drained=True))
