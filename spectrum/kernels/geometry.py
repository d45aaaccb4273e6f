"""How the kernel of a convolution moves over the images."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

Pair = tuple[int, int]


class Geometry(NamedTuple):
    """How the kernel of a convolution moves over the images.

    Attributes:
        stride: rows and columns from one output to the next.
        padding: rows and columns of zeros around the images.
        dilation: rows and columns between kernel elements.
    """

    stride: Pair
    padding: Pair
    dilation: Pair


def geometry_of(conv: nn.Conv2d) -> Geometry:
    """The geometry of a convolution whose padding is given in numbers."""
    return Geometry(conv.stride, conv.padding, conv.dilation)  # type: ignore[arg-type]


def output_size(x: Tensor, weight: Tensor, geometry: Geometry) -> Pair:
    """The rows and columns of a convolution's output; less than 1 where ``x`` is too small."""
    rows, columns = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(x.shape[2:], weight.shape[2:], *geometry, strict=True)
    )
    return rows, columns
