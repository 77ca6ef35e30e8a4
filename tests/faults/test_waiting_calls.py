"""Calls that queue at the server are all answered, however many and however long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc

from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from negserve_server.admission.status import DETAILS_KEY
from tests.support.server_process import server_process

OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]
#: gRPC cancels calls that waited for 30 seconds, unless told otherwise.
BLOCKED_SECONDS = 32
TIMEOUT = 120


def ask(target: str) -> str:
    """Call over a new connection; return the server's version."""
    with grpc.insecure_channel(target, options=OWN_CONNECTION) as channel:
        return str(
            SamplerServiceStub(channel).GetServer(pb.GetServerRequest(), timeout=TIMEOUT).version
        )


async def flood(target: str, count: int) -> Counter[tuple[str, bool]]:
    """Start many calls at once over one connection; count statuses, with and without details."""
    ends: Counter[tuple[str, bool]] = Counter()

    async def call(stub: SamplerServiceStub) -> None:
        try:
            await stub.GetServer(pb.GetServerRequest(), timeout=TIMEOUT)
            ends["OK", True] += 1
        except grpc.aio.AioRpcError as error:
            ends[error.code().name, DETAILS_KEY in dict(error.trailing_metadata())] += 1

    async with grpc.aio.insecure_channel(target, options=OWN_CONNECTION) as channel:
        await channel.channel_ready()
        stub = SamplerServiceStub(channel)
        await asyncio.gather(*(call(stub) for _ in range(count)))
    return ends


def test_calls_that_begin_while_the_event_loop_stands_still_are_answered_when_it_goes_on():
    with (
        server_process(
            module="tests.support.children.blocking_server",
            env={"BLOCK_SECONDS": str(BLOCKED_SECONDS)},
        ) as server,
        ThreadPoolExecutor(6) as threads,
    ):
        begin = time.monotonic()
        first = threads.submit(ask, server.target)
        time.sleep(0.5)
        others = [threads.submit(ask, server.target) for _ in range(5)]
        assert {each.result() for each in (first, *others)} == {first.result()}
        assert time.monotonic() - begin > BLOCKED_SECONDS - 1


def test_thousands_of_calls_at_once_end_none_of_others():
    with server_process() as server:
        stop = threading.Event()
        num_answers = 0

        def call_again_and_again() -> None:
            nonlocal num_answers
            while not stop.is_set():
                ask(server.target)
                num_answers += 1

        with ThreadPoolExecutor(1) as threads:
            bystander = threads.submit(call_again_and_again)
            try:
                ends = asyncio.run(flood(server.target, 6000))
            finally:
                stop.set()
            bystander.result()
        assert num_answers
    assert ends.total() == 6000
    # What is more than the connection may have open, HTTP/2 refuses: that passes.
    assert not [end for end in ends if not end[1] and end[0] != "UNAVAILABLE"], ends
