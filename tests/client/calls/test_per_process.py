"""Values that a forked process makes for itself."""

from __future__ import annotations

import copy
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from negserve._calls.per_process import PerProcess


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_makes_its_own_value():
    holder = PerProcess(threading.Lock)
    with holder.value:  # as another thread of the parent may hold it
        assert holder.value.locked()
        child = os.fork()
        if child == 0:
            os._exit(holder.value.locked())
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert holder.value.locked()


def test_threads_share_one_value():
    barrier = threading.Barrier(8)
    holder = PerProcess(object)

    def read(_: int) -> object:
        barrier.wait(30)
        return holder.value

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(read, range(8)))) == 1


def test_copies_have_values_of_their_own():
    holder = PerProcess(list)
    holder.value.append(1)
    assert pickle.loads(pickle.dumps(holder)).value == []
    assert copy.deepcopy(holder).value == []
    assert holder.value == [1]
