"""The innermost loops of the convolution whose vectors are neighbouring channels of a position.

A *step* is one pair of a row of the convolution's kernel and an input channel of a segment, whose
taps are the elements of that row. Where these don't read neighbouring positions, each element is a
step of its own. For each step a table has two numbers: how far from a position its first input
lies, and where the first of its weights is, both in bytes. So the same loops serve every stride,
dilation and width of a segment.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from spectrum.kernels.simd import (
    FLOATS,
    I64,
    INTS,
    LANES,
    emit_fma,
    emit_load,
    emit_store,
    vector_type,
)

POSITIONS = 14
"""The positions whose sums a convolution keeps in registers."""
REST = 4
"""The positions at once of those that are left over."""
TAPS = (3, 5, 7)
"""The widths of kernels whose rows are steps."""
ELEMENTS = 9
"""The elements of the weight whose sums its gradient keeps in registers."""
_ZERO = ir.Constant(FLOATS, [0.0] * LANES)


@intrinsic(prefer_literal=True)
def convolve_steps(context, given, positions, taps):  # type: ignore[no-untyped-def]
    """Compute out[p] = sum over steps i and taps k of x[p + offset of i + k] * weight[i, k].

    Args:
        context: Numba's.
        given: ``(x, weight, table, steps, weight_stride, out, count)``: addresses, the number of
            steps, the bytes from the weights of a tap to those of the next, and how many times
            ``positions`` are computed.
        positions: a constant: how many positions have their sums in registers.
        taps: a constant: how many neighbouring positions a step reads. Each is loaded once.
    """
    at_once, taps_of_step = positions.literal_value, taps.literal_value

    def generate(target, b, signature, values):  # type: ignore[no-untyped-def]
        x, weight, table, steps, weight_stride, out, count = cgutils.unpack_tuple(b, values[0])
        # LLVM keeps these stack variables in registers.
        sums = [cgutils.alloca_once(b, FLOATS) for _ in range(at_once)]
        with cgutils.for_range(b, count) as tiles:
            p = b.mul(tiles.index, I64(64 * at_once))
            source = b.add(x, p)
            for total in sums:
                b.store(_ZERO, total)
            with cgutils.for_range(b, steps) as loop:
                offset, place = _entries(b, table, loop.index)
                first_weight, start = b.add(weight, place), b.add(source, offset)
                factors = [
                    emit_load(b, b.add(first_weight, b.mul(weight_stride, I64(k))))
                    for k in range(taps_of_step)
                ]
                for i in range(at_once + taps_of_step - 1):
                    value = emit_load(b, b.add(start, I64(64 * i)))
                    for k, factor in enumerate(factors):
                        if 0 <= i - k < at_once:
                            total = sums[i - k]
                            b.store(emit_fma(b, value, factor, b.load(total)), total)
            for i, total in enumerate(sums):
                emit_store(b, b.load(total), b.add(b.add(out, p), I64(64 * i)))
        return target.get_dummy_value()

    return types.void(given, positions, taps), generate


@intrinsic
def correlate_steps(context, given):  # type: ignore[no-untyped-def]
    """Add to sums[i] the sum over positions p of x[p + offset of i] * g[p], for each element i.

    Args:
        context: Numba's.
        given: ``(x, g, table, count, sums, positions)``: addresses, how many times ``ELEMENTS``
            elements are computed, and the number of positions.
    """

    def generate(target, b, signature, values):  # type: ignore[no-untyped-def]
        x, g, table, count, sums, positions = cgutils.unpack_tuple(b, values[0])
        registers = [cgutils.alloca_once(b, FLOATS) for _ in range(ELEMENTS)]
        with cgutils.for_range(b, count) as chunks:
            first = b.mul(chunks.index, I64(ELEMENTS))
            sources = [
                b.add(x, _entries(b, table, b.add(first, I64(i)))[0]) for i in range(ELEMENTS)
            ]
            places = [b.add(sums, b.mul(b.add(first, I64(i)), I64(64))) for i in range(ELEMENTS)]
            for register, place in zip(registers, places, strict=True):
                b.store(emit_load(b, place), register)
            with cgutils.for_range(b, positions) as loop:
                p = b.mul(loop.index, I64(64))
                factor = emit_load(b, b.add(g, p))
                for register, source in zip(registers, sources, strict=True):
                    value = emit_load(b, b.add(source, p))
                    b.store(emit_fma(b, value, factor, b.load(register)), register)
            for register, place in zip(registers, places, strict=True):
                emit_store(b, b.load(register), place)
        return target.get_dummy_value()

    return types.void(given), generate


def _entries(b, table, index):  # type: ignore[no-untyped-def]
    """The two numbers of a step."""
    pointer = b.inttoptr(b.add(table, b.mul(index, I64(16))), I64.as_pointer())
    return b.load(pointer), b.load(b.gep(pointer, [I64(1)]))


@intrinsic
def permute(context, vector, indices):  # type: ignore[no-untyped-def]
    """A vector whose lane i is that lane of ``vector`` which the i-th of 16 integers names.

    The integers have 32 bits and begin at the address ``indices``. The CPU needs AVX-512.
    """

    def generate(target, b, signature, given):  # type: ignore[no-untyped-def]
        pointer = b.inttoptr(given[1], INTS.as_pointer())
        lanes = b.load(pointer, align=4)
        kind = ir.FunctionType(FLOATS, [FLOATS, INTS])
        name = "llvm.x86.avx512.permvar.sf.512"
        return b.call(cgutils.get_or_insert_function(b.module, kind, name), [given[0], lanes])

    return vector_type(vector_type, types.int64), generate


@intrinsic
def load_integer(context, address):  # type: ignore[no-untyped-def]
    """Read an integer of 64 bits."""

    def generate(target, b, signature, given):  # type: ignore[no-untyped-def]
        return b.load(b.inttoptr(given[0], I64.as_pointer()))

    return types.int64(types.int64), generate
