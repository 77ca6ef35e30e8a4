"""The store of tables: each built once, bounded in bytes, freed when nobody uses it."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from negserve_server.errors import Refusal, TablesFull
from negserve_server.tables import GraphTables, Tables, default_table_bytes

KIB = 2**10
Array = NDArray[np.uint8]


def make(size: int = KIB) -> Array:
    return np.zeros(size, dtype=np.uint8)


class Holder:
    """A user of a table."""


def refuse() -> Array:
    raise ValueError("it can't be made")


def test_a_table_is_shared_and_freed_with_its_last_user() -> None:
    tables = Tables(10 * KIB)
    first = tables.get("a", make)
    second = tables.get("a", refuse)
    assert second is first
    assert (len(tables), tables.num_bytes) == (1, KIB)
    del first
    assert (len(tables), tables.num_bytes) == (1, KIB)
    del second
    assert (len(tables), tables.num_bytes) == (0, 0)


def test_a_cached_table_is_used_again() -> None:
    tables = Tables(10 * KIB)
    tables.get("a", make, keep=True)
    assert tables.num_bytes == KIB
    assert len(tables.get("a", refuse)) == KIB
    tables.drop_idle()  # not yet
    assert tables.num_bytes == KIB
    assert tables.drop_idle(0) == KIB
    assert (len(tables), tables.num_bytes) == (0, 0)


def test_a_cached_table_in_use_is_not_idle() -> None:
    tables = Tables(10 * KIB, keep_seconds=0)
    holders = [Holder(), Holder()]
    tables.get("a", make, keep=True)
    for holder in holders:
        tables.hold("a", holder)
    while holders:
        assert tables.drop_idle() == 0
        assert len(tables.get("a", refuse)) == KIB
        holders.pop()
        del holder
        holder = holders[0] if holders else None
    assert tables.drop_idle() == KIB


def test_time_counts_from_when_the_last_holder_goes() -> None:
    tables = Tables(10 * KIB, keep_seconds=3600)
    tables.get("a", make, keep=True)
    holder = Holder()
    tables.hold("a", holder)
    tables._kept["a"].last_used -= 4000
    assert tables.drop_idle() == 0
    del holder
    assert tables.drop_idle() == 0  # it has just been let go
    tables._kept["a"].last_used -= 4000
    assert tables.drop_idle() == KIB


def test_a_table_that_fails_to_build_leaves_nothing() -> None:
    tables = Tables(10 * KIB)
    for keep in (False, True):
        for _ in range(3):
            with pytest.raises(ValueError, match="can't be made"):
                tables.get("a", refuse, num_bytes=KIB, keep=keep)
    assert (len(tables), tables.num_bytes) == (0, 0)
    assert not tables._making
    assert not tables._kept
    assert not tables._references
    assert len(tables.get("a", make)) == KIB


def test_the_least_recently_used_give_way_first() -> None:
    tables = Tables(3 * KIB)
    for key in "abc":
        tables.get(key, make, keep=True)
    tables.get("a", refuse, keep=True)
    tables.get("d", make, num_bytes=KIB, keep=True)
    assert tables.num_bytes == 3 * KIB
    for key in "acd":
        assert len(tables.get(key, refuse)) == KIB
    with pytest.raises(ValueError, match="can't be made"):
        tables.get("b", refuse)


def test_tables_in_use_are_never_evicted() -> None:
    tables = Tables(2 * KIB)
    holder = Holder()
    for key in "ab":
        tables.get(key, make, keep=True)
        tables.hold(key, holder)
    with pytest.raises(TablesFull) as caught:
        tables.get("c", refuse, num_bytes=KIB)  # refused before it is made
    assert caught.value.reason == "LIMIT_EXCEEDED"
    assert caught.value.metadata == {
        "resource": "table_bytes",
        "value": str(KIB),
        "limit": str(2 * KIB),
    }
    message = str(caught.value)
    assert "needs a table of 1024 bytes" in message
    assert "tables in use take 2048, the limit is 2048" in message
    assert "--max-table-bytes" in message
    assert isinstance(caught.value, Refusal)
    del holder
    assert len(tables.get("c", make, num_bytes=KIB)) == KIB


def test_an_evicted_table_counts_while_it_is_used() -> None:
    tables = Tables(2 * KIB)
    had = tables.get("a", make, keep=True)
    tables.get("b", lambda: make(KIB), num_bytes=KIB, keep=True)
    big = tables.get("c", make, num_bytes=KIB)
    assert len(big) == KIB
    with pytest.raises(TablesFull):
        tables.get("d", make, num_bytes=KIB)
    assert tables.get("a", refuse) is had
    del had
    assert len(tables.get("d", make, num_bytes=KIB)) == KIB


def test_a_table_larger_than_announced_is_refused() -> None:
    tables = Tables(2 * KIB)
    with pytest.raises(TablesFull) as caught:
        tables.get("a", lambda: make(3 * KIB), num_bytes=KIB, keep=True)
    assert caught.value.metadata["value"] == str(3 * KIB)
    del caught
    assert (len(tables), tables.num_bytes) == (0, 0)


def test_tables_under_way_count() -> None:
    tables = Tables(2 * KIB)

    def make_two() -> Array:
        assert tables.num_bytes == 2 * KIB
        with pytest.raises(TablesFull):
            tables.get("part", make, num_bytes=KIB)
        return make(2 * KIB)

    assert len(tables.get("a", make_two, num_bytes=2 * KIB)) == 2 * KIB


def test_threads_that_ask_at_once_make_a_table_once_and_others_do_not_wait() -> None:
    tables = Tables(10 * KIB)
    is_making, may_go_on = threading.Event(), threading.Event()
    times: list[int] = []

    def make_slowly() -> Array:
        times.append(1)
        is_making.set()
        assert may_go_on.wait(60)
        return make()

    with ThreadPoolExecutor(4) as pool:
        slow = [pool.submit(tables.get, "slow", make_slowly) for _ in range(3)]
        assert is_making.wait(60)
        assert len(tables.get("other", make)) == KIB
        may_go_on.set()
        found = [future.result() for future in slow]
    assert all(table is found[0] for table in found)
    assert times == [1]


def test_a_waiter_builds_the_table_after_a_failure() -> None:
    tables = Tables(10 * KIB)
    is_making, may_fail = threading.Event(), threading.Event()

    def fail() -> Array:
        is_making.set()
        assert may_fail.wait(60)
        return refuse()

    with ThreadPoolExecutor(2) as pool:
        failing = pool.submit(tables.get, "a", fail)
        assert is_making.wait(60)
        waiting = pool.submit(tables.get, "a", make)
        may_fail.set()
        with pytest.raises(ValueError, match="can't be made"):
            failing.result()
        assert len(waiting.result()) == KIB


def test_many_threads_leave_the_count_right() -> None:
    tables = Tables(64 * KIB, keep_seconds=0)

    def use(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(300):
            key = int(rng.integers(40))
            holder = Holder()
            try:
                table = tables.get(
                    key, lambda key=key: make(KIB * (1 + key % 5)), num_bytes=KIB, keep=key % 2 == 0
                )
            except TablesFull:
                continue
            tables.hold(key, holder)
            assert len(table) == KIB * (1 + key % 5)
            del table, holder
            if key == 0:
                tables.drop_idle()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(use, range(4)))
    tables.drop_idle(-1)
    gc.collect()
    assert (len(tables), tables.num_bytes) == (0, 0)
    assert not tables._making


def test_graphs_share_the_bytes_but_not_the_tables() -> None:
    tables = Tables(2 * KIB)
    one, two = GraphTables(tables), GraphTables(tables)
    first, second = one.get("a", make), two.get("a", make)
    assert first is not second
    assert one.get("a", refuse) is first
    with pytest.raises(TablesFull):
        two.get("b", make, num_bytes=KIB)


def test_the_default_is_a_quarter_of_the_memory() -> None:
    assert 2**20 < default_table_bytes() < 2**50


def test_without_queries_old_tables_are_freed_when_another_one_is_built() -> None:
    tables = Tables(10 * KIB, keep_seconds=3600)
    holder = Holder()
    for key in "abc":
        tables.get(key, make, keep=True)
    tables.hold("a", holder)
    for kept in tables._kept.values():
        kept.last_used -= 4000
    del kept
    tables.get("d", make, keep=True)
    assert tables.num_bytes == 2 * KIB
    assert len(tables.get("a", refuse)) == KIB
