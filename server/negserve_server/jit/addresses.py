"""Loads and stores at addresses, for functions that are inlined into kernels.

numba counts references of every array that is passed to a function, even to an inlined one; in a
loop over positives this took longer than the work itself (`docs/benchmarks.md`). An address is a
number, so the caller of a kernel must keep the arrays alive.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

#: Address that stands for an absent or empty array; never loaded from.
NULL = np.uint64(0)


def address_of(array: NDArray[Any]) -> np.uint64:
    """Address of a C-contiguous array; :data:`NULL` if it is empty.

    :raises ValueError: for an array with gaps between its elements
    """
    if not array.flags.c_contiguous:
        raise ValueError("a kernel needs a C-contiguous array; copy it with np.ascontiguousarray")
    return np.uint64(array.ctypes.data) if array.size else NULL


def _pointer(builder: Any, llvm_type: Any, address: Any, index: Any) -> Any:
    pointer = builder.inttoptr(address, llvm_type.as_pointer())
    return builder.gep(pointer, [index])


def _load(element: Any) -> Any:
    llvm_type = ir.IntType(element.bitwidth)

    @intrinsic  # type: ignore[untyped-decorator]
    def load(_typing: Any, address: Any, index: Any) -> Any:  # noqa: ARG001
        """Load the element at an index (uint64) of the array at an address (uint64)."""

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


load_uint8 = _load(types.uint8)
load_uint16 = _load(types.uint16)
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
    """Prefetch the cache line of an index (uint64) of the uint32 array at an address (uint64).

    A hint to the processor: an illegal address has no effect.
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
        # For reading; with high locality; data, not instructions.
        hints = [ir.Constant(number, hint) for hint in (0, 3, 1)]
        builder.call(function, [builder.bitcast(pointer, byte_pointer), *hints])

    return types.void(types.uint64, types.uint64), generate
