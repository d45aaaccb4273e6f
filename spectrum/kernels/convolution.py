"""Which compiled kernel computes a convolution, and running it.

- ``depthwise``: one channel per segment in channels_last, 3x3 with stride 1.
- ``lanes``: up to 16 channels per segment in channels_last, with any stride, on a CPU with AVX-512.
- ``planes``: any number of channels per segment in either layout, where the size stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from spectrum.kernels.eligibility import channels_last
from spectrum.kernels.geometry import Geometry, Pair, output_size

_MOST_LANES = 16  # that a vector has
_FILL_A_VECTOR = (3, 4, 5, 8)
_MOST_IN_CACHE = 112
"""Up to so many columns times channels per segment, the fastest cache holds the rows that ``lanes``
reads again. Then it is faster than ``planes`` for widths that nearly fill a vector."""
_MOST_BYTES = {torch.float32: 12 << 20, torch.bfloat16: 1 << 20}
"""Up to so many bytes of images the forward pass of ``depthwise`` is faster than torch's."""

Kernel = Literal["depthwise", "lanes", "planes"]


def kernel_of(
    weight: Tensor, geometry: Geometry, last: bool, columns: int, alone: bool = True
) -> Kernel | None:
    """The fastest kernel that computes a convolution; None if there is none.

    Args:
        weight: (C, C / segments, k_h, k_w).
        geometry: of the convolution.
        last: whether the images are channels_last.
        columns: of an image.
        alone: whether the convolution takes all channels of the images.
    """
    kernels = _kernels_of(weight, geometry, last, alone)
    if len(kernels) > 1:
        return "lanes" if weight.shape[1] * columns <= _MOST_IN_CACHE else "planes"
    return kernels[0] if kernels else None


def _kernels_of(weight: Tensor, geometry: Geometry, last: bool, alone: bool) -> list[Kernel]:
    """The kernels that may compute a convolution, of which the image's size selects one."""
    width, *kernel = weight.shape[1:]
    spans = [d * (k - 1) for d, k in zip(geometry.dilation, kernel, strict=True)]
    keeps_size = (
        geometry.stride == (1, 1)
        and all(k % 2 == 1 for k in kernel)
        and [2 * p for p in geometry.padding] == spans
    )
    if last and alone and width == 1 and kernel == [3, 3] and spans == [2, 2] and keeps_size:
        return ["depthwise"]
    pads_at_most_half = all(2 * p <= s for p, s in zip(geometry.padding, spans, strict=True))
    if not (last and width <= _MOST_LANES and pads_at_most_half and _targets_avx512()):
        return ["planes"] if keeps_size else []
    if not keeps_size or width <= 2:
        return ["lanes"]
    return ["lanes", "planes"] if width in _FILL_A_VECTOR else ["planes"]


def _targets_avx512() -> bool:
    from spectrum.kernels.compiled import targets_avx512

    return targets_avx512()


@dataclass(frozen=True, slots=True)
class Call:
    """What calls of a kind have in common.

    Attributes:
        geometry: of all convolutions.
        dtype: the type that they compute in.
        last: whether the images are channels_last.
        out_size: rows and columns of the output.
        kernels: the kernel of each convolution.
    """

    geometry: Geometry
    dtype: torch.dtype
    last: bool
    out_size: Pair
    kernels: tuple[Kernel, ...]


def prepare_call(
    weights: Sequence[Tensor], geometry: Geometry, x: Tensor, dtype: torch.dtype
) -> Call:
    """Prepare calls of ``run_forward`` and ``run_backward`` for weights and images of such shapes.

    Args:
        weights: of convolutions side by side, each on the next channels of ``x``. A kernel must
            compute each (``kernel_of``).
        geometry: of all convolutions.
        x: (N, C, H, W), contiguous or channels_last.
        dtype: the type that they compute in, float32 or bfloat16.
    """
    last = channels_last(x) is True
    found = [kernel_of(weight, geometry, last, x.shape[3], len(weights) == 1) for weight in weights]
    kernels = tuple(kernel for kernel in found if kernel is not None)
    assert len(kernels) == len(weights)
    return Call(geometry, dtype, last, output_size(x, weights[0], geometry), kernels)


def run_forward(call: Call, x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Convolutions side by side, each on the next channels of ``x``.

    Args:
        call: what ``prepare_call`` prepared for such arguments.
        x: (N, C, H, W), of the type of the call.
        weights: of that type.

    Returns:
        (N, C, H', W'), laid out as ``x``.

    Raises:
        KernelMissing: a kernel can't be compiled on this machine.
    """
    if call.kernels[0] == "depthwise" and x.nbytes > _MOST_BYTES[x.dtype]:
        return F.conv2d(x, weights[0], None, *call.geometry, len(weights[0]))
    layout = torch.channels_last if call.last else torch.contiguous_format
    out = torch.empty(*x.shape[:2], *call.out_size, dtype=x.dtype, memory_format=layout)
    for kernel, (weight, x_part, out_part) in zip(
        call.kernels, _parts(weights, x, out), strict=True
    ):
        weight = weight.detach()
        if kernel == "depthwise":
            from spectrum.kernels.depthwise import depthwise_forward

            depthwise_forward(x, weight, out)
        elif kernel == "lanes":
            from spectrum.kernels.lanes import lanes_forward

            lanes_forward(x_part, weight, out_part, call.geometry)
        else:
            from spectrum.kernels.segments import segments_forward

            segments_forward(x_part, weight, out_part, call.geometry.dilation)
    return out


def run_backward(
    call: Call, x: Tensor, weights: Sequence[Tensor], gradient: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """The gradients of ``run_forward`` with respect to its input and its weights.

    Args:
        call: as for ``run_forward``.
        x: as for ``run_forward``.
        weights: as for ``run_forward``.
        gradient: (N, C, H', W'), with respect to the output.

    Returns:
        The gradients, of the type of ``x``; the first is laid out as ``x``.

    Raises:
        KernelMissing: a kernel can't be compiled on this machine.
    """
    layout = torch.channels_last if call.last else torch.contiguous_format
    gradient = gradient.contiguous(memory_format=layout)
    out = torch.empty_like(x)
    found = []
    for kernel, (weight, x_part, out_part, gradient_part) in zip(
        call.kernels, _parts(weights, x, out, gradient), strict=True
    ):
        if kernel == "depthwise":
            from spectrum.kernels.depthwise import depthwise_backward

            found.append(depthwise_backward(x, weight, gradient, out))
        elif kernel == "lanes":
            from spectrum.kernels.lanes import lanes_backward

            found.append(lanes_backward(x_part, weight, gradient_part, out_part, call.geometry))
        else:
            from spectrum.kernels.segments import segments_backward

            dilation = call.geometry.dilation
            found.append(segments_backward(x_part, weight, gradient_part, out_part, dilation))
    return out, [weight_gradient.to(x.dtype) for weight_gradient in found]


def _parts(weights: Sequence[Tensor], *images: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Each weight with its channels of some images."""
    if len(weights) == 1:
        return iter([(weights[0], *images)])
    channels = [len(weight) for weight in weights]
    return zip(weights, *(tensor.split(channels, 1) for tensor in images), strict=True)


def compile_convolution(weight: Tensor, geometry: Geometry, dtype: torch.dtype, last: bool) -> None:
    """Compile both passes of the kernels that may compute a convolution.

    Args:
        weight: (C, C / segments, k_h, k_w).
        geometry: of the convolution.
        dtype: of the images, float32 or bfloat16.
        last: whether the images are channels_last.

    Raises:
        KernelMissing: a kernel can't be compiled on this machine.
    """
    for kernel in _kernels_of(weight, geometry, last, alone=True):
        if kernel == "depthwise":
            from spectrum.kernels.depthwise import compile_depthwise

            compile_depthwise(dtype)
        elif kernel == "lanes":
            from spectrum.kernels.lanes import compile_lanes

            compile_lanes(dtype)
        else:
            from spectrum.kernels.segments import compile_segments

            compile_segments(weight, dtype)
