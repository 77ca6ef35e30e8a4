"""The line of a worker to its supervisor."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from negserve_server.process.control_line import ControlLine
from negserve_server.process.worker_line import WorkerLine


async def answer_to_an_order(answer: object) -> dict[str, Any]:
    supervisor, own = ControlLine.pair()
    line = WorkerLine(own)

    async def follow(value: object) -> object:
        return answer

    try:
        await line.start(follow)
        supervisor.send({"order": 7, "value": "status"})
        async with asyncio.timeout(30):
            while not (found := supervisor.receive()):
                await asyncio.sleep(0.01)
    finally:
        asyncio.get_running_loop().remove_reader(own)
        supervisor.close()
        own.close()
    (message,) = found
    return dict(message)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"num": 3}, {"answer": 7, "value": {"num": 3}}),
        (b"bytes", {"failure": "Object of type bytes is not JSON serializable"}),
    ],
)
def test_an_order_is_answered_even_if_the_answer_can_not_be_encoded(
    answer: object, told: dict[str, Any]
):
    assert asyncio.run(answer_to_an_order(answer)) == told
