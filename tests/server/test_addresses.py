"""Addresses reach the elements that they should."""

from __future__ import annotations

import numba as nb
import numpy as np
import pytest

from negserve_server.addresses import (
    NOWHERE,
    address_of,
    load_int64,
    load_uint32,
    load_uint64,
    store_uint32,
)


@nb.njit
def read(small: int, large: int, signed: int, index: int) -> tuple[int, int, int]:
    return load_uint32(small, index), load_uint64(large, index), load_int64(signed, index)


@nb.njit
def write(address: int, index: int, value: int) -> None:
    store_uint32(address, index, np.uint32(value))


def test_elements_are_read_and_written():
    small = np.array([1, 2**32 - 1, 3], dtype=np.uint32)
    large = np.array([4, 2**64 - 1, 6], dtype=np.uint64)
    signed = np.array([7, -(2**63), 9], dtype=np.int64)
    one = np.uint64(1)
    found = read(address_of(small), address_of(large), address_of(signed), one)
    assert found == (2**32 - 1, 2**64 - 1, -(2**63))
    write(address_of(small), one, 8)
    assert small.tolist() == [1, 8, 3]


def test_what_has_no_elements_or_gaps_is_told():
    assert address_of(np.empty(0)) == NOWHERE
    with pytest.raises(ValueError, match="C-contiguous"):
        address_of(np.zeros((3, 3))[:, 0])
