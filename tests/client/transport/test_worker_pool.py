"""Which connection a stream takes, where a server has several processes."""

from __future__ import annotations

from unittest.mock import Mock

from negserve import ServerInfo
from negserve._transport.worker_pool import WorkerPool


def info(worker: int, num_workers: int) -> ServerInfo:
    return ServerInfo("0.1.0", (1,), Mock(), worker, num_workers)


def test_first_stream_takes_the_first_connection():
    assert WorkerPool("first").choose([]) == "first"


def test_second_stream_wants_another_connection_until_the_server_has_no_further_process():
    pool = WorkerPool("first")
    assert pool.choose(["first"]) is None
    assert pool.add("first", info(0, 1))
    assert pool.choose(["first"]) == "first"


def test_connections_to_processes_that_are_reached_already_are_not_kept():
    pool = WorkerPool("first")
    pool.add("first", info(1, 2))
    assert not pool.add("second", info(1, 2))
    assert pool.choose(["first"]) is None
    assert pool.add("third", info(0, 2))
    assert pool.channels == ["first", "third"]


def test_streams_are_spread_evenly():
    pool = WorkerPool("first")
    pool.add("first", info(0, 3))
    pool.add("second", info(1, 3))
    pool.add("third", info(2, 3))
    streams: list[str] = []
    for _ in range(7):
        channel = pool.choose(streams)
        assert channel is not None
        streams.append(channel)
    assert sorted(map(streams.count, pool.channels)) == [2, 2, 3]
    streams.remove("second")
    streams.remove("second")
    assert pool.choose(streams) == "second"


def test_processes_that_no_connection_reaches_are_given_up():
    pool = WorkerPool("first")
    tries = 0
    while pool.choose(["first"]) is None:
        pool.add(f"connection {tries}" if tries else "first", info(0, 2))
        tries += 1
        assert tries < 100, "it tries for ever"
    assert pool.choose(["first"]) == "first"


def test_server_that_does_not_answer_is_not_asked_again():
    pool = WorkerPool("first")
    pool.give_up()
    assert pool.choose(["first"]) == "first"
