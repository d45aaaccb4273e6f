"""The innermost loops of a segment's convolution, which keep their sums in registers.

A *plane* holds one channel of an image as float32, row after row, with zeros between and around
the rows (``spectrum.kernels.packing``). So a position of the image is one number,
p = y * row + x, and each element of the convolution's kernel reads at a constant offset k from it.
A vector is 16 consecutive positions, wherever in a row they lie. The tiles compute at the
positions of the padding too, and nobody reads the results there.

A *tile* is a block of sums that fits the registers. For the convolution these are several output
channels times several vectors of positions: each loaded vector serves all outputs, and each weight
all vectors. For the gradient of the weight they are several outputs times some rows of kernel
elements.
"""

from __future__ import annotations

from functools import cache

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from spectrum.kernels.compiled import Compiled, compile_function
from spectrum.kernels.simd import (
    F32,
    FLOATS,
    I64,
    LANES,
    emit_broadcast,
    emit_fma,
    emit_load,
    emit_store,
)

MAX_OUTPUTS = 8
"""The most output channels of a tile, and the most vectors of positions."""

_REGISTERS = 28  # for sums, of the 32 registers of a CPU with AVX-512
_NINE_INTEGERS = types.void(*[types.int64] * 9)
_ZERO = ir.Constant(FLOATS, [0.0] * LANES)


def vectors_per_tile(outputs: int) -> int:
    """How many vectors of positions a convolution's tile with so many outputs sums at once."""
    return min(MAX_OUTPUTS, _REGISTERS // (outputs + 1))


def max_gradient_outputs(kernel_width: int) -> int:
    """The most outputs of a gradient's tile: the sums of one row of the kernel fit registers."""
    return min(MAX_OUTPUTS, max(1, _REGISTERS // kernel_width))


@cache
def compile_conv_tile(outputs: int, kernel: tuple[int, int]) -> Compiled:
    """Compile a function that computes out[o, p] = sum over j, k of weight[j, k, o] * x[j, p + k].

    Here o is an output channel, p a position, j an input channel and k a kernel element. The
    function takes ``(x, plane, row, column, weight, inputs, out, out_plane, count)``. ``x``,
    ``weight`` and ``out`` are addresses. ``plane`` and ``out_plane`` are bytes from one channel to
    the next, ``row`` and ``column`` bytes from one kernel element to the next below and to the
    right. ``inputs`` is the number of input channels. ``count`` says how many times
    ``vectors_per_tile(outputs) * 16`` positions are computed.

    Args:
        outputs: the number of output channels, ``MAX_OUTPUTS`` at most.
        kernel: (height, width) of the convolution's kernel.
    """
    vectors, (height, width) = vectors_per_tile(outputs), kernel

    @compile_function(_NINE_INTEGERS)
    def tile(x, plane, row, column, weight, inputs, out, out_plane, count):  # type: ignore[no-untyped-def]
        _conv(
            (x, plane, row, column, weight, inputs, out, out_plane, count),
            outputs,
            vectors,
            height,
            width,
        )

    return tile


@cache
def compile_gradient_tile(outputs: int, kernel: tuple[int, int]) -> Compiled:
    """Compile a function that adds to sums[j, k, o] the sum over p of x[j, p + k] * g[o, p].

    The letters are those of ``compile_conv_tile``; g is the gradient with respect to the output. A
    sum is a vector, each lane of which adds up every 16th position; the caller adds up the lanes.
    The function takes ``(x, plane, row, column, g, g_plane, inputs, sums, count)`` with ``count``
    in vectors of 16 positions. g must be zero at the positions of the padding.

    Args:
        outputs: the number of output channels, ``max_gradient_outputs`` at most.
        kernel: (height, width) of the convolution's kernel.
    """
    height, width = kernel
    rows_at_once = max(1, min(height, _REGISTERS // (outputs * width)))

    @compile_function(_NINE_INTEGERS)
    def tile(x, plane, row, column, g, g_plane, inputs, sums, count):  # type: ignore[no-untyped-def]
        _gradient(
            (x, plane, row, column, g, g_plane, inputs, sums, count),
            outputs,
            rows_at_once,
            height,
            width,
        )

    return tile


@intrinsic(prefer_literal=True)
def _conv(context, given, outputs, vectors, height, width):  # type: ignore[no-untyped-def]
    """Emit the loops of ``compile_conv_tile``; those over outputs and vectors are unrolled."""
    n, v, h, w = (literal.literal_value for literal in (outputs, vectors, height, width))

    def generate(target, b, signature, values):  # type: ignore[no-untyped-def]
        x, plane, row, column, weight, inputs, out, out_plane, count = cgutils.unpack_tuple(
            b, values[0]
        )
        offsets = [
            b.add(b.mul(row, I64(y)), b.mul(column, I64(x))) for y in range(h) for x in range(w)
        ]
        # LLVM keeps these stack variables in registers.
        sums = [[cgutils.alloca_once(b, FLOATS) for _ in range(v)] for _ in range(n)]
        with cgutils.for_range(b, count) as positions:
            p = b.mul(positions.index, I64(v * 64))
            for total in (total for line in sums for total in line):
                b.store(_ZERO, total)
            with cgutils.for_range(b, inputs) as channels:
                source = b.add(b.add(x, p), b.mul(channels.index, plane))
                weights = b.add(weight, b.mul(channels.index, I64(h * w * n * 4)))
                for k, offset in enumerate(offsets):
                    loaded = [
                        emit_load(b, b.add(b.add(source, offset), I64(64 * i))) for i in range(v)
                    ]
                    for o in range(n):
                        pointer = b.inttoptr(b.add(weights, I64(4 * (k * n + o))), F32.as_pointer())
                        factor = emit_broadcast(b, b.load(pointer))
                        for i in range(v):
                            total = emit_fma(b, loaded[i], factor, b.load(sums[o][i]))
                            b.store(total, sums[o][i])
            for o in range(n):
                address = b.add(b.add(out, p), b.mul(out_plane, I64(o)))
                for i in range(v):
                    emit_store(b, b.load(sums[o][i]), b.add(address, I64(64 * i)))
        return target.get_dummy_value()

    return types.void(given, outputs, vectors, height, width), generate


@intrinsic(prefer_literal=True)
def _gradient(context, given, outputs, rows_at_once, height, width):  # type: ignore[no-untyped-def]
    """Emit the loops of ``compile_gradient_tile``: some rows of the kernel in each sweep."""
    n, rows, h, w = (literal.literal_value for literal in (outputs, rows_at_once, height, width))

    def generate(target, b, signature, values):  # type: ignore[no-untyped-def]
        x, plane, row, column, g, g_plane, inputs, sums, count = cgutils.unpack_tuple(b, values[0])
        offsets = [
            b.add(b.mul(row, I64(y)), b.mul(column, I64(x))) for y in range(h) for x in range(w)
        ]
        gradients = [b.add(g, b.mul(g_plane, I64(o))) for o in range(n)]
        # LLVM keeps these stack variables in registers.
        registers = [cgutils.alloca_once(b, FLOATS) for _ in range(n * rows * w)]
        with cgutils.for_range(b, inputs) as channels:
            source = b.add(x, b.mul(channels.index, plane))
            channel_sums = b.add(sums, b.mul(channels.index, I64(h * w * n * 64)))
            for first in range(0, h * w, rows * w):
                elements = range(first, min(h * w, first + rows * w))
                addresses = [
                    b.add(channel_sums, I64(64 * (k * n + o))) for k in elements for o in range(n)
                ]
                for register, address in zip(registers, addresses, strict=False):
                    b.store(emit_load(b, address), register)
                with cgutils.for_range(b, count) as positions:
                    p = b.mul(positions.index, I64(64))
                    factors = [emit_load(b, b.add(gradient, p)) for gradient in gradients]
                    for i, k in enumerate(elements):
                        loaded = emit_load(b, b.add(b.add(source, p), offsets[k]))
                        for o in range(n):
                            register = registers[i * n + o]
                            total = emit_fma(b, loaded, factors[o], b.load(register))
                            b.store(total, register)
                for register, address in zip(registers, addresses, strict=False):
                    emit_store(b, b.load(register), address)
        return target.get_dummy_value()

    return types.void(given, outputs, rows_at_once, height, width), generate


@intrinsic
def call_tile(context, tile, given):  # type: ignore[no-untyped-def]
    """Call the tile at an address with its nine arguments, which are given as a tuple."""

    def generate(target, b, signature, values):  # type: ignore[no-untyped-def]
        kind = ir.FunctionType(ir.VoidType(), [I64] * 9)
        b.call(b.inttoptr(values[0], kind.as_pointer()), cgutils.unpack_tuple(b, values[1]))
        return target.get_dummy_value()

    return types.void(types.int64, given), generate
