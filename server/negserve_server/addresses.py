"""Loads and stores at addresses, for helpers that are inlined into kernels.

numba counts the references of every array that it passes to a helper, even to an inlined one.
In a loop over positives that took longer than the work itself (`docs/benchmarks.md`). An
address is a number: whoever calls a kernel keeps the arrays alive.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

#: The address of an array without elements, which is never loaded from.
NOWHERE = np.uint64(0)


def address_of(array: NDArray[Any]) -> np.uint64:
    """Give the address of a C-contiguous array; :data:`NOWHERE` if it has no elements."""
    if not array.flags.c_contiguous:
        raise ValueError("only a C-contiguous array has its elements one behind the other")
    return np.uint64(array.ctypes.data) if array.size else NOWHERE


def _load(element: Any) -> Any:
    llvm_type = ir.IntType(element.bitwidth)

    @intrinsic  # type: ignore[untyped-decorator]
    def load(_typing: Any, address: Any, index: Any) -> Any:  # noqa: ARG001
        """Load the element with an index (uint64) of the array at an address (uint64)."""

        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], llvm_type.as_pointer())
            return builder.load(builder.gep(pointer, [arguments[1]]))

        return element(types.uint64, types.uint64), generate

    return load


load_uint32 = _load(types.uint32)
load_uint64 = _load(types.uint64)
load_int64 = _load(types.int64)


@intrinsic  # type: ignore[untyped-decorator]
def store_uint32(_typing: Any, address: Any, index: Any, value: Any) -> Any:  # noqa: ARG001
    """Store an element (uint32) at an index (uint64) of the array at an address (uint64)."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.IntType(32).as_pointer())
        builder.store(arguments[2], builder.gep(pointer, [arguments[1]]))

    return types.void(types.uint64, types.uint64, types.uint32), generate
