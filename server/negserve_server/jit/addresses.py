"""Loads and stores at addresses, for helpers that are inlined into kernels.

numba counts the references of every array that it passes to a helper, even to an inlined one.
In a loop over positives that took longer than the work itself (`docs/benchmarks.md`). An
address is a number: whoever calls a kernel keeps the arrays alive.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

#: The address of an array without elements, which is never loaded from.
NULL = np.uint64(0)


def address_of(array: NDArray[Any]) -> np.uint64:
    """Give the address of a C-contiguous array; :data:`NULL` if it has no elements."""
    if not array.flags.c_contiguous:
        raise ValueError("only a C-contiguous array has its elements one behind the other")
    return np.uint64(array.ctypes.data) if array.size else NULL


def _pointer(builder: Any, llvm_type: Any, address: Any, index: Any) -> Any:
    pointer = builder.inttoptr(address, llvm_type.as_pointer())
    return builder.gep(pointer, [index])


def _load(element: Any) -> Any:
    llvm_type = ir.IntType(element.bitwidth)

    @intrinsic  # type: ignore[untyped-decorator]
    def load(_typing: Any, address: Any, index: Any) -> Any:  # noqa: ARG001
        """Load the element with an index (uint64) of the array at an address (uint64)."""

        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.load(_pointer(builder, llvm_type, *arguments))

        return element(types.uint64, types.uint64), generate

    return load


def _store(element: Any) -> Any:
    llvm_type = ir.FloatType() if element is types.float32 else ir.IntType(element.bitwidth)

    @intrinsic  # type: ignore[untyped-decorator]
    def store(_typing: Any, address: Any, index: Any, value: Any) -> Any:  # noqa: ARG001
        """Store an element at an index (uint64) of the array at an address (uint64)."""

        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            builder.store(arguments[2], _pointer(builder, llvm_type, *arguments[:2]))

        return types.void(types.uint64, types.uint64, element), generate

    return store


load_uint32 = _load(types.uint32)
load_uint64 = _load(types.uint64)
load_int64 = _load(types.int64)
store_uint8 = _store(types.uint8)
store_uint16 = _store(types.uint16)
store_uint32 = _store(types.uint32)
store_uint64 = _store(types.uint64)
store_float32 = _store(types.float32)


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(_typing: Any, address: Any, index: Any) -> Any:  # noqa: ARG001
    """Ask for the cache line of an index (uint64) of the uint32 array at an address (uint64).

    Only a hint: an address that is not legal does no harm.
    """

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pointer = _pointer(builder, ir.IntType(32), *arguments)
        number = ir.IntType(32)
        byte_pointer = ir.IntType(8).as_pointer()
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [byte_pointer, number, number, number]),
            "llvm.prefetch.p0",
        )
        # To be read, kept in all caches, data.
        hints = [ir.Constant(number, hint) for hint in (0, 3, 1)]
        builder.call(function, [builder.bitcast(pointer, byte_pointer), *hints])

    return types.void(types.uint64, types.uint64), generate
