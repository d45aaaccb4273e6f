"""Vectors of 16 floats as values in Numba code.

Numba compiles scalar code, and LLVM finds vectors in its loops by itself. It doesn't where sums
have to stay in registers across several nested loops, as in these kernels. So each function here
emits one or two vector instructions of LLVM directly. On a CPU with shorter registers LLVM splits
a vector of 16 into several.

Conventions:

- Addresses are integers, in bytes.
- A vector holds 16 float32 values, its *lanes*. A mask says which lanes are read or written.
- Sums are always float32. Values in memory are float32 or bfloat16, which is the upper half of a
  float32. An argument ``marker`` tells which by its Numba type alone: ``FLOAT`` means float32, and
  the argument of a kernel means the type that the kernel was compiled for.
- A kernel's argument points to 64-bit integers: two counters that all threads share, then the
  values that ``run_kernel`` was given (``fetch_add`` and ``load_args`` read them).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 16
FLOAT = np.float32(0)
"""The marker of float32 values in memory."""

I64, I32, I16 = (ir.IntType(bits) for bits in (64, 32, 16))
F32 = ir.FloatType()
FLOATS, INTS, SHORTS, BITS = (ir.VectorType(kind, LANES) for kind in (F32, I32, I16, ir.IntType(1)))


class _Register(types.Type):
    """The Numba type of what one register holds: 16 floats, or the 16 bits of a mask."""

    def __init__(self, name: str, content: ir.VectorType) -> None:
        super().__init__(name=name)
        self.content = content


vector_type, mask_type = _Register("Vector16", FLOATS), _Register("Mask16", BITS)


@register_model(_Register)
class _RegisterModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: _Register) -> None:
        super().__init__(manager, kind, kind.content)


# The functions from here on emit LLVM instructions; b is llvmlite's builder.


def _is_bfloat16(marker: Any) -> bool:
    return bool(marker == types.CPointer(types.uint16))


def _constant(kind: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(kind, [value] * LANES)


_ALL_LANES = _constant(BITS, 1)


def _call(b: Any, name: str, result: Any, *values: Any) -> Any:
    function = ir.FunctionType(result, [value.type for value in values])
    return b.call(cgutils.get_or_insert_function(b.module, function, name), values)


def emit_broadcast(b: Any, value: Any, kind: ir.VectorType = FLOATS) -> Any:
    """A vector with one value in all lanes."""
    undefined = ir.Constant(kind, ir.Undefined)
    first = b.insert_element(undefined, value, I32(0))
    return b.shuffle_vector(first, undefined, _constant(INTS, 0))


def _emit_first_lanes(b: Any, count: Any) -> Any:
    """The mask of the first ``count`` lanes."""
    indices = ir.Constant(INTS, list(range(LANES)))
    return b.icmp_signed("<", indices, emit_broadcast(b, b.trunc(count, I32), INTS))


def emit_fma(b: Any, x: Any, y: Any, z: Any) -> Any:
    """The vector x * y + z, rounded once."""
    return _call(b, "llvm.fma.v16f32", FLOATS, x, y, z)


def _from_bfloat16(b: Any, halves: Any) -> Any:
    return b.bitcast(b.shl(b.zext(halves, INTS), _constant(INTS, 16)), FLOATS)


def _to_bfloat16(b: Any, floats: Any) -> Any:
    """Round to the nearest bfloat16, ties to even, as torch rounds; NaN stays NaN."""
    bits = b.bitcast(floats, INTS)
    odd = b.and_(b.lshr(bits, _constant(INTS, 16)), _constant(INTS, 1))
    rounded = b.lshr(b.add(b.add(bits, _constant(INTS, 0x7FFF)), odd), _constant(INTS, 16))
    is_nan = b.fcmp_unordered("uno", floats, floats)
    return b.trunc(b.select(is_nan, _constant(INTS, 0x7FC0), rounded), SHORTS)


def emit_load(b: Any, address: Any, mask: Any = _ALL_LANES, half: bool = False) -> Any:
    """The lanes of a mask from memory, as float32; the other lanes are zero.

    Args:
        b: llvmlite's builder.
        address: needs no alignment beyond that of a value.
        mask: which lanes are read.
        half: whether memory holds bfloat16.
    """
    kind, name = (SHORTS, "v16i16") if half else (FLOATS, "v16f32")
    pointer = b.inttoptr(address, kind.as_pointer())
    align, other_lanes = I32(2 if half else 4), _constant(kind, 0)
    loaded = _call(b, f"llvm.masked.load.{name}.p0", kind, pointer, align, mask, other_lanes)
    return _from_bfloat16(b, loaded) if half else loaded


def emit_store(
    b: Any, value: Any, address: Any, mask: Any = _ALL_LANES, half: bool = False
) -> None:
    """Write the lanes of a mask to memory; the arguments are those of ``emit_load``."""
    kind, name = (SHORTS, "v16i16") if half else (FLOATS, "v16f32")
    pointer = b.inttoptr(address, kind.as_pointer())
    value = _to_bfloat16(b, value) if half else value
    align = I32(2 if half else 4)
    _call(b, f"llvm.masked.store.{name}.p0", ir.VoidType(), value, pointer, align, mask)


def _transposed(b: Any, rows: list[Any]) -> list[Any]:
    """The columns of a matrix of 16 vectors: first its halves are swapped, then quarters, ..."""
    rows = list(rows)
    for d in (8, 4, 2, 1):
        upper = ir.Constant(INTS, [i if not i & d else LANES + i - d for i in range(LANES)])
        lower = ir.Constant(INTS, [i + d if not i & d else LANES + i for i in range(LANES)])
        for i in range(LANES):
            if not i & d:
                x, y = rows[i], rows[i + d]
                rows[i] = b.shuffle_vector(x, y, upper)
                rows[i + d] = b.shuffle_vector(x, y, lower)
    return rows


# The functions from here on are called in Numba code. Numba passes each a context and the types of
# its arguments; it returns a signature and a function that emits the instructions.

_OF_TWO = vector_type(vector_type, vector_type)


@intrinsic
def zeros(context):  # type: ignore[no-untyped-def]
    """A vector of zeros."""
    return vector_type(), lambda target, b, signature, given: _constant(FLOATS, 0)


@intrinsic
def first_lanes(context, count):  # type: ignore[no-untyped-def]
    """The mask of the first ``count`` lanes; of all lanes where ``count`` is 16 or more."""
    return (
        mask_type(types.int64),
        lambda target, b, signature, given: _emit_first_lanes(b, given[0]),
    )


@intrinsic
def load(context, address, mask, marker):  # type: ignore[no-untyped-def]
    """Read the lanes of a mask from memory, as float32; the other lanes are zero."""
    half = _is_bfloat16(marker)

    def generate(target, b, signature, given):  # type: ignore[no-untyped-def]
        return emit_load(b, given[0], given[1], half)

    return vector_type(types.int64, mask_type, marker), generate


@intrinsic
def store(context, address, value, mask, marker):  # type: ignore[no-untyped-def]
    """Write the lanes of a mask to memory, rounded where the marker means bfloat16."""
    half = _is_bfloat16(marker)

    def generate(target, b, signature, given):  # type: ignore[no-untyped-def]
        emit_store(b, given[1], given[0], given[2], half)
        return target.get_dummy_value()

    return types.void(types.int64, vector_type, mask_type, marker), generate


@intrinsic
def add(context, x, y):  # type: ignore[no-untyped-def]
    """The vector x + y."""
    return _OF_TWO, lambda target, b, signature, given: b.fadd(*given)


@intrinsic
def sub(context, x, y):  # type: ignore[no-untyped-def]
    """The vector x - y."""
    return _OF_TWO, lambda target, b, signature, given: b.fsub(*given)


@intrinsic
def where_positive(context, x, y):  # type: ignore[no-untyped-def]
    """The vector with y in the lanes where x is above zero or NaN, and 0 in the others."""

    def generate(target, b, signature, given):  # type: ignore[no-untyped-def]
        zero = _constant(FLOATS, 0)
        return b.select(b.fcmp_unordered("ugt", given[0], zero), given[1], zero)

    return _OF_TWO, generate


@intrinsic
def mul(context, x, y):  # type: ignore[no-untyped-def]
    """The vector x * y."""
    return _OF_TWO, lambda target, b, signature, given: b.fmul(*given)


@intrinsic
def fma(context, x, y, z):  # type: ignore[no-untyped-def]
    """The vector x * y + z, rounded once."""
    of_three = vector_type(vector_type, vector_type, vector_type)
    return of_three, lambda target, b, signature, given: emit_fma(b, *given)


@intrinsic(prefer_literal=True)
def transpose(  # type: ignore[no-untyped-def]
    context,
    source,
    source_stride,
    rows,
    target,
    target_stride,
    columns,
    most_rows,
    most_columns,
    markers,
):
    """Copy a matrix of ``rows`` x ``columns`` values so that its rows become columns.

    Args:
        context: Numba's.
        source: the address of the first row.
        source_stride: bytes from one row of the source to the next.
        rows: the number of rows, 16 at most.
        target: the address of the first row of the target, which takes the first column.
        target_stride: bytes from one row of the target to the next.
        columns: the number of values in a row of the source, 16 at most.
        most_rows: a constant that ``rows`` doesn't exceed; a smaller one means less work.
        most_columns: a constant that ``columns`` doesn't exceed.
        markers: the markers of the source and of the target.
    """
    most_rows, most_columns = (n.literal_value for n in (most_rows, most_columns))
    source_half, target_half = (_is_bfloat16(marker) for marker in markers)

    def generate(numba_target, b, signature, given):  # type: ignore[no-untyped-def]
        source, source_stride, rows, target, target_stride, columns = given[:6]

        def row_mask(values, row_count, row):  # type: ignore[no-untyped-def]
            """The mask of the first ``values`` lanes; of none where there is no such row."""
            lanes = b.select(b.icmp_signed("<", I64(row), row_count), values, I64(0))
            return _emit_first_lanes(b, lanes)

        loaded = [
            emit_load(
                b,
                b.add(source, b.mul(source_stride, I64(i))),
                row_mask(columns, rows, i),
                source_half,
            )
            for i in range(most_rows)
        ]
        loaded += [_constant(FLOATS, 0)] * (LANES - most_rows)
        for i, row in enumerate(_transposed(b, loaded)[:most_columns]):
            address = b.add(target, b.mul(target_stride, I64(i)))
            emit_store(b, row, address, row_mask(rows, columns, i), target_half)
        return numba_target.get_dummy_value()

    integers = [types.int64] * 6
    literals = types.literal(most_rows), types.literal(most_columns)
    return types.void(*integers, *literals, markers), generate


@intrinsic
def prefetch(context, address):  # type: ignore[no-untyped-def]
    """Ask the CPU to fetch a cache line that will be read soon."""

    def generate(target, b, signature, given):  # type: ignore[no-untyped-def]
        pointer = b.inttoptr(given[0], ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, I32, I32, I32])
        call = cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0")
        b.call(call, [pointer, I32(0), I32(3), I32(1)])
        return target.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def fetch_add(context, args, i):  # type: ignore[no-untyped-def]
    """Add one to a kernel's i-th counter (0 or 1) and give its value before.

    The operation is atomic: each value, from 0 on, goes to one thread only.
    """

    def generate(target, b, signature, given):  # type: ignore[no-untyped-def]
        counter = b.gep(b.bitcast(given[0], I64.as_pointer()), [given[1]])
        return b.atomic_rmw("add", counter, I64(1), "monotonic")

    return types.int64(args, types.int64), generate


@intrinsic(prefer_literal=True)
def load_args(context, args, first, count):  # type: ignore[no-untyped-def]
    """A tuple of ``count`` values that ``run_kernel`` was given, from index ``first`` on.

    Both must be constants.
    """
    result = types.UniTuple(types.int64, count.literal_value)

    def generate(target, b, signature, given):  # type: ignore[no-untyped-def]
        start = b.bitcast(given[0], I64.as_pointer())
        indices = range(2 + first.literal_value, 2 + first.literal_value + result.count)
        values = [b.load(b.gep(start, [I64(i)])) for i in indices]
        return target.make_tuple(b, result, values)

    return result(args, first, count), generate
