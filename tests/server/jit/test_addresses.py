"""Addresses reach the right elements."""

from __future__ import annotations

import platform

import llvmlite
import numba as nb
import numpy as np
import pytest
from llvmlite import ir
from numba.core import cgutils

from negserve_server.jit.addresses import (
    NULL,
    address_of,
    load_int64,
    load_uint32,
    load_uint64,
    prefetch,
    store_float32,
    store_uint8,
    store_uint16,
    store_uint32,
    store_uint64,
)


@nb.njit
def read(small: int, large: int, signed: int, index: int) -> tuple[int, int, int]:
    return load_uint32(small, index), load_uint64(large, index), load_int64(signed, index)


@nb.njit
def write(bytes_: int, shorts: int, words: int, longs: int, floats: int, index: int) -> None:
    store_uint8(bytes_, index, np.uint8(8))
    store_uint16(shorts, index, np.uint16(16))
    store_uint32(words, index, np.uint32(32))
    store_uint64(longs, index, np.uint64(64))
    store_float32(floats, index, np.float32(0.5))


@nb.njit
def ask(address: int, index: int) -> None:
    prefetch(address, index)


def test_elements_are_read_and_written():
    small = np.array([1, 2**32 - 1, 3], dtype=np.uint32)
    large = np.array([4, 2**64 - 1, 6], dtype=np.uint64)
    signed = np.array([7, -(2**63), 9], dtype=np.int64)
    one = np.uint64(1)
    found = read(address_of(small), address_of(large), address_of(signed), one)
    assert found == (2**32 - 1, 2**64 - 1, -(2**63))


def test_elements_of_every_width_are_written_and_their_neighbours_not():
    dtypes = (np.uint8, np.uint16, np.uint32, np.uint64, np.float32)
    arrays = [np.ones(3, dtype=dtype) for dtype in dtypes]
    write(*map(address_of, arrays), np.uint64(1))
    assert [array.tolist() for array in arrays] == [[1, x, 1] for x in (8, 16, 32, 64, 0.5)]


def test_any_address_may_be_prefetched():
    for address in (NULL, np.uint64(2**47), address_of(np.ones(3, dtype=np.uint32))):
        ask(address, np.uint64(1))


def test_empty_arrays_and_arrays_with_gaps():
    assert address_of(np.empty(0)) == NULL
    with pytest.raises(ValueError, match="C-contiguous"):
        address_of(np.zeros((3, 3))[:, 0])


ADAPT = "adapt server/negserve_server/jit/addresses.py, then the bound of numba in pyproject.toml"


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (ir, ["IntType", "FloatType", "VoidType", "FunctionType", "Constant"]),
        (ir.IntType(32), ["as_pointer"]),
        (ir.IRBuilder, ["inttoptr", "gep", "load", "store", "bitcast", "call", "module"]),
        (cgutils, ["get_or_insert_function"]),
    ],
    ids=["llvmlite.ir", "llvmlite.ir.IntType", "llvmlite.ir.IRBuilder", "numba.core.cgutils"],
)
def test_llvmlite_and_numba_have_what_addresses_are_compiled_with(owner: object, names: list[str]):
    missing = [name for name in names if not hasattr(owner, name)]
    assert not missing, f"llvmlite {llvmlite.__version__}, numba {nb.__version__}: {ADAPT}"


def test_llvm_makes_an_instruction_of_the_prefetch_intrinsic():
    ask(NULL, np.uint64(0))
    (code,) = ask.inspect_asm().values()
    instruction = {"x86_64": "prefetch", "aarch64": "prfm", "arm64": "prfm"}[platform.machine()]
    assert instruction in code, f"llvmlite {llvmlite.__version__}: {ADAPT}"
