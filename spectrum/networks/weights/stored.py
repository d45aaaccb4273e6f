"""The point of the dial that stored weights were made at, read off their shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from torch import Tensor, nn

from spectrum.layers import SegmentedConv
from spectrum.segments import Segments

__all__ = ["stored_segments"]

Run = tuple[int, int]  # of equal segments: (output channels in all, input channels of one)


def stored_segments(network: nn.Module, state: Mapping[str, Tensor]) -> list[Segments]:
    """The segments of every ``SegmentedConv`` of a network in a state dict of the same network.

    Args:
        network: at any point of the dial, on any device.
        state: of the network at another point, by its own names.

    Returns:
        One a layer, in order of ``named_modules()``; a layer that ``state`` has no spatial
        convolution for keeps its own.
    """
    return [
        _segments(layer, _runs(name, state), f"{name}.pointwise.weight" in state)
        for name, layer in network.named_modules()
        if isinstance(layer, SegmentedConv)
    ]


def _runs(name: str, state: Mapping[str, Tensor]) -> list[Run]:
    """The runs of equal segments that a layer's spatial convolution is stored as."""
    whole = state.get(f"{name}.spatial.weight")
    if whole is not None:
        return [(whole.shape[0], whole.shape[1])]
    runs: list[Run] = []
    while (weight := state.get(f"{name}.spatial.convs.{len(runs)}.weight")) is not None:
        runs.append((weight.shape[0], weight.shape[1]))
    return runs


def _segments(layer: SegmentedConv, runs: Sequence[Run], with_pointwise: bool) -> Segments:
    if with_pointwise or layer.in_channels == layer.out_channels:
        # A square convolution: a segment has as many outputs as inputs.
        sizes = [width for out, width in runs for _ in range(out // width)]
        even = Segments(len(sizes) or 1)
        if sizes and list(even.sizes(sum(sizes))) != sizes:
            return Segments(sizes)
        return even if sizes else layer.segments
    for n in map(Segments, range(1, min(layer.in_channels, layer.out_channels) + 1)):
        if _near_equal_runs(n, layer.in_channels, layer.out_channels) == list(runs):
            return n
    return layer.segments


def _near_equal_runs(n: Segments, in_channels: int, out_channels: int) -> list[Run]:
    runs = []
    sizes = zip(n.sizes(in_channels), n.sizes(out_channels), strict=True)
    for (width_in, width_out), segments in groupby(sizes):
        runs.append((len(list(segments)) * width_out, width_in))
    return runs
