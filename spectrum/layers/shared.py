"""One kernel that a layer's segments share, whatever their number."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call

from spectrum.layers.segmented import SegmentedConv
from spectrum.layers.spatial import match_memory_format, plain_convs

Ranges: TypeAlias = Sequence[tuple[int, int]]
"""Channels of a tensor: the first one and the number of each run of neighbours, in order."""


class SharedConv(nn.Module):
    """The weights that segmented convolutions of one place share, and one of them to execute.

    The kernel is dense. A convolution with n segments has the n blocks on its diagonal, and one
    with fewer channels has the blocks within the kernel of these channels. The 1x1 convolution and
    the bias are shared too. Weights are views of the shared ones, so gradients reach the chosen
    blocks alone; where they don't lie side by side in memory they are copied when a layer is
    executed.

    A kernel is drawn for the inputs that it has when it is dense. So that a segment's outputs vary
    as much as those of a layer that was made with these segments, weights are multiplied by
    sqrt(inputs of the shared weight / inputs of the convolution's weight).

    Args:
        layers: the segmented convolutions with all channels, one per number of segments. They
            differ in their segments, and may differ in their order.

    Attributes:
        kernel: of the spatial convolution, (most C_out, most C_in, k_h, k_w).
        pointwise: of the 1x1 convolution, (out_channels, in_channels, 1, 1); None without one.
        bias: of the last convolution, (out_channels,); None without one.
    """

    def __init__(self, layers: Sequence[SegmentedConv]) -> None:
        super().__init__()
        first = layers[0]
        spatials = [plain_convs(layer.spatial) for layer in layers]
        outputs = max(sum(part.out_channels for part in parts) for parts in spatials)
        inputs = max(sum(part.in_channels for part in parts) for parts in spatials)
        # nn.Conv2d draws the initial values.
        self.kernel = nn.Conv2d(inputs, outputs, first.kernel_size).weight
        self.pointwise = None
        if any(layer.pointwise is not None for layer in layers):
            self.pointwise = nn.Conv2d(first.in_channels, first.out_channels, kernel_size=1).weight
        self.bias = nn.Parameter(torch.zeros(first.out_channels)) if first.bias else None
        self.set(first)

    def set(self, layer: SegmentedConv, inputs: Ranges | None = None) -> None:
        """Choose what is executed.

        Args:
            layer: the convolution, on the meta device; its own weights aren't used.
            inputs: which of all input channels are its own; None for the first.
        """
        self._chosen = (layer, inputs)  # in a tuple, lest it become a child of this module

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x`` (N, C_in, H, W) to (N, C_out, H', W') by the chosen layer."""
        layer, inputs = self._chosen
        weights = self.weights(layer, inputs)
        # None of them is tied to another, and to look for such takes time.
        return functional_call(layer, weights, (x,), tie_weights=False)  # type: ignore[no-any-return]

    def weights(self, layer: SegmentedConv, inputs: Ranges | None = None) -> dict[str, Tensor]:
        """The weights of a layer, by their names in it; arguments are those of ``set``."""
        return {
            name: scale(view.reshape(shape), factor)
            for name, view, shape, factor in self._views(layer, inputs)
        }

    @torch.no_grad()
    def fill(self, layer: SegmentedConv) -> None:
        """Take over the weights of a layer with all channels, and whether they require gradients.

        The device, type, layout and mode become those of the layer too.
        """
        own = dict(layer.named_parameters())
        weight = plain_convs(layer.spatial)[0].weight
        match_memory_format(self.to(weight).train(layer.training), weight)
        for name, view, _, factor in self._views(layer, None):
            view.copy_(own[name].view(view.shape) / factor)
        self.requires_grad_(any(parameter.requires_grad for parameter in own.values()))

    def extract(self, layer: SegmentedConv) -> SegmentedConv:
        """A layer with its own copies of its weights; ``layer`` is as in ``set``."""
        extracted = copy.deepcopy(layer)
        extracted.load_state_dict(detached(self.weights(layer)), assign=True)
        return extracted.train(self.training).requires_grad_(self.kernel.requires_grad)

    def _views(
        self, layer: SegmentedConv, inputs: Ranges | None
    ) -> Iterator[tuple[str, Tensor, torch.Size, float]]:
        """Each weight of a layer: name, elements in their order, shape, and factor."""
        first_inputs, outputs = [(0, layer.in_channels)], [(0, layer.out_channels)]
        inputs = inputs or first_inputs
        rows = inputs if layer.order == "spatial_first" else outputs
        columns = outputs if layer.order == "pointwise_first" else inputs
        kernel = take(take(self.kernel, 0, rows), 1, columns)
        row = column = 0
        for i, part in enumerate(plain_convs(layer.spatial)):
            name = "spatial" if layer.spatial is part else f"spatial.convs.{i}"
            block = take(kernel, 0, [(row, part.out_channels)])
            block = take(block, 1, [(column, part.in_channels)])
            # (segment, C_out/n, segment, C_in/n, k_h, k_w), of which the diagonal remains
            block = block.unflatten(1, (part.groups, -1)).unflatten(0, (part.groups, -1))
            block = block.diagonal(dim1=0, dim2=2).movedim(-1, 0)
            factor = fan_in_factor(self.kernel, part.weight)
            yield f"{name}.weight", block, part.weight.shape, factor
            if part.bias is not None:
                assert self.bias is not None
                bias = take(self.bias, 0, [(row, part.out_channels)])
                yield f"{name}.bias", bias, part.bias.shape, 1.0
            row, column = row + part.out_channels, column + part.in_channels
        if layer.pointwise is not None:
            assert self.pointwise is not None
            own = layer.pointwise
            assert isinstance(own, nn.Conv2d)  # Members refuses a 1x1 in segments
            weight = take(take(self.pointwise, 0, outputs), 1, inputs)
            factor = fan_in_factor(self.pointwise, own.weight)
            yield "pointwise.weight", weight, own.weight.shape, factor
            if own.bias is not None:
                assert self.bias is not None
                yield "pointwise.bias", take(self.bias, 0, outputs), own.bias.shape, 1.0


def take(tensor: Tensor, dim: int, ranges: Ranges) -> Tensor:
    """The channels of a tensor in one dimension: a view of it if they are neighbours."""
    # narrow would be right for a whole dimension too, but its gradient is one more copy.
    parts = [
        tensor if n == tensor.shape[dim] else tensor.narrow(dim, first, n) for first, n in ranges
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def scale(weight: Tensor, factor: float) -> Tensor:
    """``weight * factor``; the weight itself if the factor is 1."""
    return weight if factor == 1 else weight * factor


def fan_in_factor(shared: Tensor, own: Tensor) -> float:
    """What a weight that was drawn for more inputs is multiplied by, as ``SharedConv`` says.

    Args:
        shared: (C_out, C_in, ...).
        own: the weight that is a part of it, (C_out', C_in', ...).
    """
    return math.sqrt(shared.shape[1] / own.shape[1])


def detached(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies without a gradient history."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
