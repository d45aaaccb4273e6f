"""Infers the segments of stored weights from their shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from torch import Tensor, nn

from spectrum.layers import SegmentedConv
from spectrum.networks.former_names import rename_former
from spectrum.segments import Segments

Group = tuple[int, int]  # equal segments: (output channels in all, input channels of each)


def stored_segments(network: nn.Module, state: Mapping[str, Tensor]) -> list[Segments]:
    """Infer the segments of every ``SegmentedConv`` of a network from a state dict.

    Args:
        network: the network with any segments, on any device.
        state: the state dict of the same network with other segments.

    Returns:
        The segments of each layer, in order of ``named_modules()``. A layer whose spatial
        convolution isn't in ``state`` keeps its own segments.
    """
    state = rename_former(network, state)
    return [
        _infer_segments(
            layer, _groups(f"{name}.spatial", state), bool(_groups(f"{name}.pointwise", state))
        )
        for name, layer in _segmented_layers(network)
    ]


def stored_pointwise_segments(network: nn.Module, state: Mapping[str, Tensor]) -> list[Segments]:
    """Infer the segments of the 1x1 convolutions, as ``stored_segments`` infers the others.

    A layer without a 1x1 in ``state`` keeps its own.
    """
    state = rename_former(network, state)
    return [
        _infer_of_both(layer, _groups(f"{name}.pointwise", state), layer.pointwise_segments)
        for name, layer in _segmented_layers(network)
    ]


def stored_layers(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, bool]:
    """The names of a network's layers with a spatial convolution in a state dict.

    Args:
        network: the network, whose names are those of ``state``.
        state: the state dict.

    Returns:
        For each of them, whether it has a 1x1 there.
    """
    return {
        name: bool(_groups(f"{name}.pointwise", state))
        for name, _ in _segmented_layers(network)
        if _groups(f"{name}.spatial", state)
    }


def _segmented_layers(network: nn.Module) -> Iterator[tuple[str, SegmentedConv]]:
    for name, layer in network.named_modules():
        if isinstance(layer, SegmentedConv):
            yield name, layer


def _groups(name: str, state: Mapping[str, Tensor]) -> list[Group]:
    """The groups of equal segments in which a convolution is stored; none if it isn't."""
    only = state.get(f"{name}.weight")
    if only is not None:
        return [(only.shape[0], only.shape[1])]
    groups: list[Group] = []
    while (weight := state.get(f"{name}.convs.{len(groups)}.weight")) is not None:
        groups.append((weight.shape[0], weight.shape[1]))
    return groups


def _infer_segments(layer: SegmentedConv, groups: Sequence[Group], has_pointwise: bool) -> Segments:
    if has_pointwise or layer.in_channels == layer.out_channels:
        return _infer_of_square(groups, layer.segments)
    return _infer_of_both(layer, groups, layer.segments)


def _infer_of_square(groups: Sequence[Group], own: Segments) -> Segments:
    # A segment has as many outputs as inputs.
    sizes = [width for out, width in groups for _ in range(out // width)]
    return Segments.from_sizes(sizes) if sizes else own


def _infer_of_both(layer: SegmentedConv, groups: Sequence[Group], own: Segments) -> Segments:
    """The segments that divide the layer's input and output channels."""
    if not groups or layer.in_channels == layer.out_channels:
        return _infer_of_square(groups, own)
    for n in map(Segments, range(1, min(layer.in_channels, layer.out_channels) + 1)):
        if _near_equal_groups(n, layer.in_channels, layer.out_channels) == list(groups):
            return n
    return own


def _near_equal_groups(n: Segments, in_channels: int, out_channels: int) -> list[Group]:
    groups = []
    sizes = zip(n.sizes(in_channels), n.sizes(out_channels), strict=True)
    for (width_in, width_out), segments in groupby(sizes):
        groups.append((len(list(segments)) * width_out, width_in))
    return groups
