"""Which channels of a wide network are those of a narrower one: the first ones of each layer.

Where outputs of several layers are concatenated, the layer that takes them has the first channels
of each, which don't lie side by side in the wide network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from spectrum.layers.segmented import SegmentedConv
from spectrum.layers.shared import Ranges, fan_in_factor, scale, take

_IMAGES = ""  # stands for the layer that makes the images

Sources = Mapping[str, Sequence[str]]
"""For each layer with weights, the layers whose outputs are its input, in order of channels."""


class Slice(NamedTuple):
    """The part of a parameter or buffer that a narrower network has.

    Attributes:
        outputs: the number of its channels in the first dimension.
        inputs: its channels in the second dimension; None if it has no second one.
        factor: what it is multiplied by (see ``SharedConv``).
    """

    outputs: int
    inputs: Ranges | None
    factor: float

    def of(self, tensor: Tensor) -> Tensor:
        """The part of ``tensor``: a view where its channels are neighbours and the factor is 1."""
        part = take(tensor, 0, [(0, self.outputs)])
        return part if self.inputs is None else scale(take(part, 1, self.inputs), self.factor)


class _Tracer(fx.Tracer):
    """Looks into no layer."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _is_layer(m) or super().is_leaf_module(m, module_qualified_name)


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, SegmentedConv) or bool(module._parameters)


def input_sources(network: nn.Module) -> Sources:
    """Find the layers that make each layer's input.

    Args:
        network: a network that ``torch.fx`` can trace. Its layers with weights take channels in
            dimension 1, and all put out channels of their own but those with one weight for each
            channel, such as batch normalisation.
    """
    made_by: dict[fx.Node, tuple[str, ...]] = {}
    inputs: dict[str, tuple[str, ...]] = {}
    for node in _Tracer().trace(network).nodes:
        if node.op == "placeholder":
            made_by[node] = (_IMAGES,)
            continue
        arguments: Any = node.args[0] if node.target is torch.cat else node.all_input_nodes[:1]
        sources = tuple(name for argument in arguments for name in made_by[argument])
        made_by[node] = sources
        if node.op == "call_module":
            name = str(node.target)
            module = network.get_submodule(name)
            if _is_layer(module):
                inputs[name] = sources
                if any(weight.dim() > 1 for weight in module.parameters()):
                    made_by[node] = (name,)
    return inputs


def slice_channels(
    wide: nn.Module, narrow: nn.Module, sources: Sources
) -> tuple[dict[str, Slice], dict[str, Ranges]]:
    """Find the channels of a narrower network in a wide one.

    Args:
        wide: the network with all channels.
        narrow: the same network with fewer channels.
        sources: what ``input_sources`` gives for either.

    Returns:
        The slice of each parameter and buffer that differs, but for those of segmented
        convolutions; and the input channels of each of these.
    """

    def input_ranges(name: str, channels: int) -> Ranges:
        sizes = [(_outputs(wide, source), _outputs(narrow, source)) for source in sources[name]]
        if sources[name] == (_IMAGES,):
            return [(0, channels)]
        # A flattened map has several positions for a channel.
        positions = channels // sum(own for _, own in sizes)
        ranges, start = [], 0
        for size, own in sizes:
            ranges.append((start * positions, own * positions))
            start += size
        return ranges

    slices: dict[str, Slice] = {}
    inputs: dict[str, Ranges] = {}
    for name in sources:
        layer, own_layer = wide.get_submodule(name), narrow.get_submodule(name)
        if isinstance(own_layer, SegmentedConv):
            inputs[name] = input_ranges(name, own_layer.in_channels)
        for kind, tensor in (*layer._parameters.items(), *layer._buffers.items()):
            own = getattr(own_layer, kind)
            if tensor is None or tensor.shape == own.shape:
                continue
            # Of batch normalisation too these are the first channels: none is of several outputs.
            channels = None if tensor.dim() == 1 else input_ranges(name, own.shape[1])
            factor = 1.0 if channels is None else fan_in_factor(tensor, own)
            slices[f"{name}.{kind}"] = Slice(len(own), channels, factor)
    return slices, inputs


def _outputs(network: nn.Module, name: str) -> int:
    """The channels that a layer puts out; 0 for the images, of which there is no layer."""
    if name == _IMAGES:
        return 0
    layer = network.get_submodule(name)
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels  # type: ignore[return-value]
