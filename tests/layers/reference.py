"""What the tests of layers compare with: a spatial convolution written out, and its arguments."""

from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor

ACTIVATIONS = {
    None: lambda x: x,
    "relu": lambda x: torch.where(x > 0, x, 0.0),
    "elu": lambda x: torch.where(x > 0, x, torch.exp(x) - 1),
}


def near_equal(channels: int, n: int) -> list[int]:
    return [len(range(i, channels, n)) for i in range(n)]


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def place(rows: list[Tensor], in_sizes: list[int], out_sizes: list[int]) -> Tensor:
    """One row per output channel, set into a dense weight that is zero outside the segments."""
    dense = torch.zeros(sum(out_sizes), sum(in_sizes), *rows[0].shape[1:], dtype=rows[0].dtype)
    columns = [0, *accumulate(in_sizes)]
    segment_of_row = [i for i, size in enumerate(out_sizes) for _ in range(size)]
    for o, (row, segment) in enumerate(zip(rows, segment_of_row, strict=True)):
        dense[o, columns[segment] : columns[segment + 1]] = row
    return dense


_PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def spatial_cases(draw: st.DrawFn) -> tuple[dict[str, Any], tuple[int, int]]:
    """The arguments that layers and towers share, and the size of an image that they can take."""
    arguments = {
        "kernel_size": draw(
            st.one_of(st.integers(1, 5), st.tuples(st.integers(1, 4), st.integers(1, 5)))
        ),
        "activation": draw(st.sampled_from(list(ACTIVATIONS))),
        "stride": draw(st.one_of(st.integers(1, 3), _PAIRS)),
        "padding": draw(st.one_of(st.none(), st.integers(0, 2), _PAIRS)),
        "dilation": draw(st.one_of(st.integers(1, 3), _PAIRS)),
        "bias": draw(st.booleans()),
    }
    sizes = zip(pair(arguments["dilation"]), pair(arguments["kernel_size"]), strict=True)
    smallest = [1 if arguments["padding"] is None else d * (k - 1) + 1 for d, k in sizes]
    height, width = (draw(st.integers(0, 3)) + side for side in smallest)
    return arguments, (height, width)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, arguments: dict[str, Any]) -> Tensor:
    """Pad and convolve images as a layer with these arguments does."""
    kernel, dilation = pair(arguments["kernel_size"]), pair(arguments["dilation"])
    if arguments["padding"] is None:
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        top, left = total[0] // 2, total[1] // 2
        margins = (left, total[1] - left, top, total[0] - top)
    else:
        vertical, horizontal = pair(arguments["padding"])
        margins = (horizontal, horizontal, vertical, vertical)
    x = F.pad(x, margins)
    return F.conv2d(x, weight, bias, stride=pair(arguments["stride"]), dilation=dilation)
