"""How the status of a server is shown: rates, and text that comes from outside."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from negserve._admin.server_rates import Rates, rates_between
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
