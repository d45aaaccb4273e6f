"""Moving a layer along the dial with its weights.

A segmented kernel is a block-diagonal dense one. Where every new segment is a union of old ones
the new layer is the same function; elsewhere what lies outside the new blocks is dropped, which is
the closest kernel that the new segments allow (in the Frobenius norm).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spectrum.layers.arguments import Order, Pair
from spectrum.layers.segmented import SegmentedConv, dialled_channels
from spectrum.layers.spatial import (
    dense_weight,
    fill_from_dense,
    keep_trained,
    segment_biases,
    segment_weights,
    spatial_parameters,
)
from spectrum.segments import Segments

__all__ = ["composed", "keep_layout", "put_on_dial", "resegmented"]


def put_on_dial(conv: nn.Conv2d) -> SegmentedConv:
    """A convolution as the ``spatial_only`` layer that it is, with copies of its weights.

    Args:
        conv: dense, grouped or depthwise, padded with zeros.
    """
    padding: int | Pair | None = conv.padding  # type: ignore[assignment]
    if isinstance(padding, str):
        padding = None if padding == "same" else 0
    with torch.device("meta"):
        layer = SegmentedConv(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            segments=conv.groups,
            order="spatial_only",
            stride=conv.stride,  # type: ignore[arg-type]
            padding=padding,
            dilation=conv.dilation,  # type: ignore[arg-type]
            bias=conv.bias is not None,
        )
    _materialise(layer, conv, conv.weight)
    _copy(conv, layer.spatial)
    return layer


def resegmented(conv: SegmentedConv, segments: Segments) -> tuple[SegmentedConv, float]:
    """The layer at another point of the dial, with the closest kernel and all else as it was.

    Args:
        conv: the layer; it isn't changed.
        segments: the point; more segments than channels become one a channel.

    Returns:
        The new layer, and the share of the kernel's energy (sum of squares) that is dropped: 0
        where the two layers are the same function, NaN on the meta device.

    Raises:
        ValueError: explicit sizes that don't add up to the layer's channels.
    """
    channels = dialled_channels(conv.in_channels, conv.out_channels, conv.order)
    layer = _like(conv, segments.saturated(channels), conv.order)
    dense = dense_weight(conv.spatial)
    fill_from_dense(layer.spatial, dense)
    for kind in ("weight", "bias"):
        keep_trained(
            spatial_parameters(conv.spatial, kind), spatial_parameters(layer.spatial, kind)
        )
    biases = segment_biases(layer.spatial)
    if biases:
        bias = torch.cat(segment_biases(conv.spatial))
        with torch.no_grad():
            for own, values in zip(biases, bias.split([len(b) for b in biases]), strict=True):
                own.copy_(values)
    if layer.pointwise is not None and conv.pointwise is not None:
        _copy(conv.pointwise, layer.pointwise)
    return layer, _dropped(dense, dense_weight(layer.spatial))


def composed(conv: SegmentedConv) -> SegmentedConv:
    """A layer with its 1x1 last as the one dense convolution that it equals.

    Args:
        conv: ``spatial_first``, without an activation between.
    """
    assert conv.order == "spatial_first"
    assert conv.activation is None
    assert conv.pointwise is not None
    layer = _like(conv, Segments(1), "spatial_only")
    mixing = conv.pointwise.weight.detach()
    dense = torch.einsum("om,mikl->oikl", mixing.flatten(1), dense_weight(conv.spatial))
    fill_from_dense(layer.spatial, dense)
    if conv.pointwise.bias is not None:
        with torch.no_grad():
            segment_biases(layer.spatial)[0].copy_(conv.pointwise.bias)
    return layer


def keep_layout(layer: nn.Module, weight: Tensor) -> None:
    """Lay a layer's weights out in memory as another weight is."""
    if not weight.is_contiguous() and weight.is_contiguous(memory_format=torch.channels_last):
        layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _like(conv: SegmentedConv, segments: Segments, order: Order) -> SegmentedConv:
    """A layer that differs in its segments and its order alone, with weights of any value."""
    with torch.device("meta"):
        layer = SegmentedConv(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            segments=segments,
            order=order,
            activation=conv.activation,
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            bias=conv.bias,
        )
    _materialise(layer, conv, segment_weights(conv.spatial)[0])
    return layer


def _materialise(layer: SegmentedConv, old: nn.Module, weight: Tensor) -> None:
    """Give a layer on the meta device memory like that of the one it replaces."""
    layer.to(weight.dtype).to_empty(device=weight.device).train(old.training)
    keep_layout(layer, weight)


@torch.no_grad()
def _copy(source: nn.Module, target: nn.Module) -> None:
    # By name: taking a parametrization off, for one, leaves the weight behind the bias.
    theirs = dict(source.named_parameters())
    for name, own in target.named_parameters():
        own.copy_(theirs[name]).requires_grad_(theirs[name].requires_grad)


def _dropped(before: Tensor, after: Tensor) -> float:
    if before.is_meta:
        return math.nan
    energy = before.abs().double().square().sum().item()
    return (before - after).abs().double().square().sum().item() / energy if energy else 0.0
