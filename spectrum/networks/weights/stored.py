"""Infers the segments of stored weights from their shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        _infer_segments(layer, _groups(name, state), f"{name}.pointwise.weight" in state)
        for name, layer in network.named_modules()
        if isinstance(layer, SegmentedConv)
    ]


def _groups(name: str, state: Mapping[str, Tensor]) -> list[Group]:
    """The groups of equal segments in which a layer's spatial convolution is stored."""
    only = state.get(f"{name}.spatial.weight")
    if only is not None:
        return [(only.shape[0], only.shape[1])]
    groups: list[Group] = []
    while (weight := state.get(f"{name}.spatial.convs.{len(groups)}.weight")) is not None:
        groups.append((weight.shape[0], weight.shape[1]))
    return groups


def _infer_segments(layer: SegmentedConv, groups: Sequence[Group], has_pointwise: bool) -> Segments:
    if has_pointwise or layer.in_channels == layer.out_channels:
        # The spatial convolution is square: a segment has as many outputs as inputs.
        sizes = [width for out, width in groups for _ in range(out // width)]
        return Segments.from_sizes(sizes) if sizes else layer.segments
    for n in map(Segments, range(1, min(layer.in_channels, layer.out_channels) + 1)):
        if _near_equal_groups(n, layer.in_channels, layer.out_channels) == list(groups):
            return n
    return layer.segments


def _near_equal_groups(n: Segments, in_channels: int, out_channels: int) -> list[Group]:
    groups = []
    sizes = zip(n.sizes(in_channels), n.sizes(out_channels), strict=True)
    for (width_in, width_out), segments in groupby(sizes):
        groups.append((len(list(segments)) * width_out, width_in))
    return groups
