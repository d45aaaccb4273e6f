"""The innermost loops of a segment's convolution: as many sums as there are registers.

Both work on planes of float32, one a channel, whose rows follow each other, padding included. So
a position p = y * row + x is one number, a kernel element an offset to it, and 16 positions are a
vector wherever they stand. What comes out at positions of the padding means nothing.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from spectrum.layers.kernels.compiled import compiled
from spectrum.layers.kernels.simd import (
    F32,
    FLOATS,
    I64,
    LANES,
    fma_in,
    load_in,
    splat_in,
    store_in,
)

__all__ = [
    "LARGEST",
    "call_tile",
    "conv_tile",
    "gradient_outputs",
    "gradient_tile",
    "vectors_of",
]

LARGEST = 8  # outputs of one tile
_SUMS = 28  # of the 32 registers of a machine with AVX-512
_NINE = types.void(*[types.int64] * 9)
_NONE = ir.Constant(FLOATS, [0.0] * LANES)


def vectors_of(outputs: int) -> int:
    """How many vectors of positions a tile of so many outputs sums at once."""
    return min(LARGEST, _SUMS // (outputs + 1))


def gradient_outputs(width: int) -> int:
    """The most outputs of a gradient's tile, whose sums of a row of the kernel are registers."""
    return min(LARGEST, max(1, _SUMS // width))


def conv_tile(outputs: int, kernel: tuple[int, int]) -> Any:
    """A function that computes out[o, p] = sum over j, k of weight[j, k, o] * x[j, p + k].

    It takes ``(x, plane, row, column, weight, inputs, out, out_plane, count)``: addresses, steps
    in bytes and counts, ``count`` in vectors of ``vectors_of(outputs) * 16`` positions. ``row`` and
    ``column`` are the steps from a kernel element to the next.

    Args:
        outputs: how many, ``LARGEST`` at most.
        kernel: (height, width).
    """
    vectors, (height, width) = vectors_of(outputs), kernel

    @compiled(_NINE)
    def tile(x, plane, row, column, weight, inputs, out, out_plane, count):  # type: ignore[no-untyped-def]
        _conv(
            (x, plane, row, column, weight, inputs, out, out_plane, count),
            outputs,
            vectors,
            height,
            width,
        )

    return tile


def gradient_tile(outputs: int, kernel: tuple[int, int]) -> Any:
    """A function that adds to sums[j, k, o] the sum over p of x[j, p + k] * g[o, p], 16 lanes each.

    It takes ``(x, plane, row, column, g, g_plane, inputs, sums, count)`` as above, ``count`` in
    vectors of 16 positions; g must be zero at positions of the padding.

    Args:
        outputs: how many, ``LARGEST`` at most.
        kernel: (height, width).
    """
    height, width = kernel
    at_once = max(1, min(height, _SUMS // (outputs * width)))

    @compiled(_NINE)
    def tile(x, plane, row, column, g, g_plane, inputs, sums, count):  # type: ignore[no-untyped-def]
        _gradient(
            (x, plane, row, column, g, g_plane, inputs, sums, count),
            outputs,
            at_once,
            height,
            width,
        )

    return tile


@intrinsic(prefer_literal=True)
def _conv(context, given, outputs, vectors, height, width):  # type: ignore[no-untyped-def]
    n, v, h, w = (literal.literal_value for literal in (outputs, vectors, height, width))

    def generate(target, b, signature, values):  # type: ignore[no-untyped-def]
        x, plane, row, column, weight, inputs, out, out_plane, count = cgutils.unpack_tuple(
            b, values[0]
        )
        steps = [
            b.add(b.mul(row, I64(y)), b.mul(column, I64(x))) for y in range(h) for x in range(w)
        ]
        # LLVM turns these into registers.
        sums = [[cgutils.alloca_once(b, FLOATS) for _ in range(v)] for _ in range(n)]
        with cgutils.for_range(b, count) as positions:
            p = b.mul(positions.index, I64(v * 64))
            for one in (s for line in sums for s in line):
                b.store(_NONE, one)
            with cgutils.for_range(b, inputs) as channels:
                at = b.add(b.add(x, p), b.mul(channels.index, plane))
                weights = b.add(weight, b.mul(channels.index, I64(h * w * n * 4)))
                for k, step in enumerate(steps):
                    seen = [load_in(b, b.add(b.add(at, step), I64(64 * i))) for i in range(v)]
                    for o in range(n):
                        pointer = b.inttoptr(b.add(weights, I64(4 * (k * n + o))), F32.as_pointer())
                        factor = splat_in(b, b.load(pointer))
                        for i in range(v):
                            b.store(fma_in(b, seen[i], factor, b.load(sums[o][i])), sums[o][i])
            for o in range(n):
                at = b.add(b.add(out, p), b.mul(out_plane, I64(o)))
                for i in range(v):
                    store_in(b, b.load(sums[o][i]), b.add(at, I64(64 * i)))
        return target.get_dummy_value()

    return types.void(given, outputs, vectors, height, width), generate


@intrinsic(prefer_literal=True)
def _gradient(context, given, outputs, at_once, height, width):  # type: ignore[no-untyped-def]
    n, rows, h, w = (literal.literal_value for literal in (outputs, at_once, height, width))

    def generate(target, b, signature, values):  # type: ignore[no-untyped-def]
        x, plane, row, column, g, g_plane, inputs, sums, count = cgutils.unpack_tuple(b, values[0])
        steps = [
            b.add(b.mul(row, I64(y)), b.mul(column, I64(x))) for y in range(h) for x in range(w)
        ]
        gradients = [b.add(g, b.mul(g_plane, I64(o))) for o in range(n)]
        held = [cgutils.alloca_once(b, FLOATS) for _ in range(n * rows * w)]
        with cgutils.for_range(b, inputs) as channels:
            at = b.add(x, b.mul(channels.index, plane))
            own = b.add(sums, b.mul(channels.index, I64(h * w * n * 64)))
            for first in range(0, h * w, rows * w):
                elements = range(first, min(h * w, first + rows * w))
                kept = [b.add(own, I64(64 * (k * n + o))) for k in elements for o in range(n)]
                for one, address in zip(held, kept, strict=False):
                    b.store(load_in(b, address), one)
                with cgutils.for_range(b, count) as positions:
                    p = b.mul(positions.index, I64(64))
                    values = [load_in(b, b.add(one, p)) for one in gradients]
                    for i, k in enumerate(elements):
                        seen = load_in(b, b.add(b.add(at, p), steps[k]))
                        for o in range(n):
                            one = held[i * n + o]
                            b.store(fma_in(b, seen, values[o], b.load(one)), one)
                for one, address in zip(held, kept, strict=False):
                    store_in(b, b.load(one), address)
        return target.get_dummy_value()

    return types.void(given, outputs, at_once, height, width), generate


@intrinsic
def call_tile(context, tile, given):  # type: ignore[no-untyped-def]
    """Call a tile by its address with its nine arguments, a tuple."""

    def generate(target, b, signature, values):  # type: ignore[no-untyped-def]
        kind = ir.FunctionType(ir.VoidType(), [I64] * 9)
        b.call(b.inttoptr(values[0], kind.as_pointer()), cgutils.unpack_tuple(b, values[1]))
        return target.get_dummy_value()

    return types.void(types.int64, given), generate
