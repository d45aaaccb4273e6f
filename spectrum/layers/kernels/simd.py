"""Vectors of 16 floats as values of Numba code, for kernels that hold them in registers.

Numba leaves it to LLVM to find vectors in loops over scalars, which it doesn't where sums are to
stay in registers across several loops. These functions say it: each is an instruction or two of
LLVM's own language, which splits a vector where the machine's are shorter. Addresses are integers,
in bytes. A *kind* is any value whose type tells: ``FLOAT`` for numbers of float32, a kernel's own
argument for those that it was compiled for, float32 or bfloat16, which is the upper half of
float32. Sums are always of float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

__all__ = [
    "FLOAT",
    "LANES",
    "add",
    "fma",
    "fma_in",
    "lanes",
    "load",
    "load_in",
    "mul",
    "numbers",
    "positive",
    "prefetch",
    "splat_in",
    "store",
    "store_in",
    "sub",
    "take",
    "transpose",
    "zeros",
]

LANES = 16
FLOAT = np.float32(0)

I64, I32, I16 = (ir.IntType(bits) for bits in (64, 32, 16))
F32 = ir.FloatType()
FLOATS, INTS, SHORTS, BITS = (ir.VectorType(kind, LANES) for kind in (F32, I32, I16, ir.IntType(1)))


class _Vector(types.Type):
    """16 floats."""

    def __init__(self) -> None:
        super().__init__(name="Vector16")


class _Mask(types.Type):
    """Which of 16 lanes are meant."""

    def __init__(self) -> None:
        super().__init__(name="Mask16")


vector, mask = _Vector(), _Mask()


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, FLOATS)


@register_model(_Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, BITS)


# What follows writes LLVM's language: b is its builder.


def _is_half(kind: Any) -> bool:
    return bool(kind == types.CPointer(types.uint16))


def _all(kind: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(kind, [value] * LANES)


def _call(b: Any, name: str, gives: Any, *given: Any) -> Any:
    function = ir.FunctionType(gives, [value.type for value in given])
    return b.call(cgutils.get_or_insert_function(b.module, function, name), given)


def splat_in(b: Any, value: Any, kind: ir.VectorType = FLOATS) -> Any:
    """A vector of one value."""
    none = ir.Constant(kind, ir.Undefined)
    return b.shuffle_vector(b.insert_element(none, value, I32(0)), none, _all(INTS, 0))


def fma_in(b: Any, x: Any, y: Any, z: Any) -> Any:
    """X * y + z, rounded once."""
    return _call(b, "llvm.fma.v16f32", FLOATS, x, y, z)


def load_in(b: Any, address: Any) -> Any:
    """16 floats from any address."""
    value = b.load(b.inttoptr(address, FLOATS.as_pointer()))
    value.align = 4
    return value


def store_in(b: Any, value: Any, address: Any) -> None:
    """16 floats to any address."""
    b.store(value, b.inttoptr(address, FLOATS.as_pointer())).align = 4


def _widened(b: Any, halves: Any) -> Any:
    return b.bitcast(b.shl(b.zext(halves, INTS), _all(INTS, 16)), FLOATS)


def _narrowed(b: Any, floats: Any) -> Any:
    """To the nearest bfloat16, ties to even, as torch rounds; not-a-number stays so."""
    bits = b.bitcast(floats, INTS)
    odd = b.and_(b.lshr(bits, _all(INTS, 16)), _all(INTS, 1))
    rounded = b.lshr(b.add(b.add(bits, _all(INTS, 0x7FFF)), odd), _all(INTS, 16))
    is_nan = b.fcmp_unordered("uno", floats, floats)
    return b.trunc(b.select(is_nan, _all(INTS, 0x7FC0), rounded), SHORTS)


def _masked_load(b: Any, address: Any, where: Any, half: bool) -> Any:
    kind, name = (SHORTS, "v16i16") if half else (FLOATS, "v16f32")
    pointer = b.inttoptr(address, kind.as_pointer())
    loaded = _call(
        b, f"llvm.masked.load.{name}.p0", kind, pointer, I32(2 if half else 4), where, _all(kind, 0)
    )
    return _widened(b, loaded) if half else loaded


def _masked_store(b: Any, value: Any, address: Any, where: Any, half: bool) -> None:
    kind, name = (SHORTS, "v16i16") if half else (FLOATS, "v16f32")
    pointer = b.inttoptr(address, kind.as_pointer())
    given = _narrowed(b, value) if half else value
    _call(
        b,
        f"llvm.masked.store.{name}.p0",
        ir.VoidType(),
        given,
        pointer,
        I32(2 if half else 4),
        where,
    )


def _transposed(b: Any, rows: list[Any]) -> list[Any]:
    """The columns of 16 vectors, by exchanging halves, quarters and so on."""
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


# What follows is for Numba's code.


@intrinsic
def zeros(context):  # type: ignore[no-untyped-def]
    """A vector of zeros."""
    return vector(), lambda target, b, signature, given: _all(FLOATS, 0)


@intrinsic
def lanes(context, count):  # type: ignore[no-untyped-def]
    """The mask of the first ``count`` lanes; all of them from 16 on."""

    def generate(target, b, signature, given):  # type: ignore[no-untyped-def]
        counted = ir.Constant(INTS, list(range(LANES)))
        return b.icmp_signed("<", counted, splat_in(b, b.trunc(given[0], I32), INTS))

    return mask(types.int64), generate


@intrinsic
def load(context, address, where, kind):  # type: ignore[no-untyped-def]
    """The numbers of the lanes that are meant, zeros in the others."""
    half = _is_half(kind)

    def generate(target, b, signature, given):  # type: ignore[no-untyped-def]
        return _masked_load(b, given[0], given[1], half)

    return vector(types.int64, mask, kind), generate


@intrinsic
def store(context, address, value, where, kind):  # type: ignore[no-untyped-def]
    """Write the lanes that are meant, rounded where the kind is ``HALF``."""
    half = _is_half(kind)

    def generate(target, b, signature, given):  # type: ignore[no-untyped-def]
        _masked_store(b, given[1], given[0], given[2], half)
        return target.get_dummy_value()

    return types.void(types.int64, vector, mask, kind), generate


@intrinsic
def add(context, x, y):  # type: ignore[no-untyped-def]
    """X + y."""
    return vector(vector, vector), lambda target, b, signature, given: b.fadd(*given)


@intrinsic
def sub(context, x, y):  # type: ignore[no-untyped-def]
    """X - y."""
    return vector(vector, vector), lambda target, b, signature, given: b.fsub(*given)


@intrinsic
def positive(context, x, y):  # type: ignore[no-untyped-def]
    """Y where x is above zero or not a number, else 0."""

    def generate(target, b, signature, given):  # type: ignore[no-untyped-def]
        none = _all(FLOATS, 0)
        return b.select(b.fcmp_unordered("ugt", given[0], none), given[1], none)

    return vector(vector, vector), generate


@intrinsic
def mul(context, x, y):  # type: ignore[no-untyped-def]
    """X * y."""
    return vector(vector, vector), lambda target, b, signature, given: b.fmul(*given)


@intrinsic
def fma(context, x, y, z):  # type: ignore[no-untyped-def]
    """X * y + z, rounded once."""
    return vector(vector, vector, vector), lambda target, b, signature, given: fma_in(b, *given)


@intrinsic(prefer_literal=True)
def transpose(context, source, step, rows, target, plane, columns, most_rows, most_columns, kind):  # type: ignore[no-untyped-def]
    """Move ``rows`` x ``columns`` numbers so that rows become columns.

    Args:
        context: Numba's.
        source: the address of the first row.
        step: from a row to the next.
        rows: how many, 16 at most.
        target: where the first row's numbers go, each to the start of a row of its own.
        plane: from a row of the target to the next.
        columns: numbers a row of the source, 16 at most.
        most_rows: a constant that the rows don't exceed; fewer are less work.
        most_columns: the same of the columns.
        kind: ``(of the source, of the target)``.
    """
    most_rows, most_columns = (n.literal_value for n in (most_rows, most_columns))
    read_half, write_half = (_is_half(k) for k in kind)

    def generate(target, b, signature, given):  # type: ignore[no-untyped-def]
        source, step, rows, goal, plane, columns = given[:6]

        def first(count, of):  # type: ignore[no-untyped-def]
            """The mask of the first lanes of row ``of``, of none where it isn't one."""
            counted = ir.Constant(INTS, list(range(LANES)))
            within = b.select(b.icmp_signed("<", I64(of), count[1]), count[0], I64(0))
            return b.icmp_signed("<", counted, splat_in(b, b.trunc(within, I32), INTS))

        read = [
            _masked_load(
                b, b.add(source, b.mul(step, I64(i))), first((columns, rows), i), read_half
            )
            for i in range(most_rows)
        ]
        read += [_all(FLOATS, 0)] * (LANES - most_rows)
        for i, row in enumerate(_transposed(b, read)[:most_columns]):
            at = b.add(goal, b.mul(plane, I64(i)))
            _masked_store(b, row, at, first((rows, columns), i), write_half)
        return target.get_dummy_value()

    numbers = [types.int64] * 6
    signature = types.void(*numbers, types.literal(most_rows), types.literal(most_columns), kind)
    return signature, generate


@intrinsic
def prefetch(context, address):  # type: ignore[no-untyped-def]
    """Have a cache line on its way before it is read."""

    def generate(target, b, signature, given):  # type: ignore[no-untyped-def]
        pointer = b.inttoptr(given[0], ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, I32, I32, I32])
        call = cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0")
        b.call(call, [pointer, I32(0), I32(3), I32(1)])
        return target.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def take(context, given, i):  # type: ignore[no-untyped-def]
    """The next number of a kernel's i-th counter, from 0; each is given to one thread."""

    def generate(target, b, signature, values):  # type: ignore[no-untyped-def]
        counter = b.gep(b.bitcast(values[0], I64.as_pointer()), [values[1]])
        return b.atomic_rmw("add", counter, I64(1), "monotonic")

    return types.int64(given, types.int64), generate


@intrinsic(prefer_literal=True)
def numbers(context, given, first, count):  # type: ignore[no-untyped-def]
    """Some of the numbers that a kernel is given, as a tuple; both counts are constants."""
    gives = types.UniTuple(types.int64, count.literal_value)

    def generate(target, b, signature, values):  # type: ignore[no-untyped-def]
        start = b.bitcast(values[0], I64.as_pointer())
        at = range(2 + first.literal_value, 2 + first.literal_value + gives.count)
        return target.make_tuple(b, gives, [b.load(b.gep(start, [I64(i)])) for i in at])

    return gives(given, first, count), generate
