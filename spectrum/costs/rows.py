"""A network's costs, one row per layer.

Each row also has the MACs of a regular and a separable layer in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from spectrum.costs.count import Costs, count_costs
from spectrum.costs.fast import count_config
from spectrum.costs.inputs import checked_shape
from spectrum.costs.table import module_rows
from spectrum.layers import SegmentedConv, UnevenConv2d
from spectrum.networks import NetworkConfig, build, call_user_code, is_user_code, takes_argument
from spectrum.segments import UNCONVERTED

__all__ = ["cost_rows", "unconverted_rows"]

_NO_COSTS: dict[str, Any] = {
    "output_shape": (),
    "segments": None,
    "params": 0,
    "macs": 0,
    "activations": 0,
}
_NO_LAYER: dict[str, Any] = {
    "kind": "",
    "output_shape": "",
    "segment_count": None,
    **dict.fromkeys(("params", "macs", "flops", "activations", "weight_bytes"), 0),
    **dict.fromkeys(("spatial_params", "pointwise_params", "spatial_macs", "pointwise_macs"), 0),
    **dict.fromkeys(("segmented_macs", "regular_macs", "separable_macs"), 0),
}


def cost_rows(config: NetworkConfig, input_shape: Sequence[int]) -> pd.DataFrame:
    """The costs of a network, one row per layer; a segmented convolution is one layer.

    Args:
        config: the network.
        input_shape: the shape of one example, such as ``(3, 299, 299)``.

    Returns:
        The columns that describe the network: ``network``, ``order`` ("own" if no order is set),
        ``segments`` (the setting), ``width``, ``classes`` (missing for a user's model that doesn't
        take their number) and ``input``.

        The columns that describe the layer: ``flow`` (the first part of its path), ``layer,
        kind, output_shape, segment_count``.

        Its costs: ``params`` (trainable), ``macs``, ``flops`` (2 x MACs), ``activations``,
        ``weight_bytes`` (of all parameters); ``spatial_params`` and ``spatial_macs`` of
        convolutions larger than 1x1; ``pointwise_params`` and ``pointwise_macs`` of 1x1
        convolutions.

        For segmented convolutions (0 for other layers) the MACs of the alternatives with the same
        channels: ``segmented_macs`` of the layer itself; ``regular_macs`` of a regular
        convolution, k*k*c_in*c_out at each position of the output; ``separable_macs`` of the
        paper's depthwise separable convolution, which is that times 1/c_out + 1/(k*k).

    Raises:
        ValueError: the segments don't fit the layers, or the network can't process the input.
    """
    shape = checked_shape(input_shape)
    if is_user_code(config.name):
        network = build(config)
        costs = count_costs(network, shape)
    else:
        with torch.device("meta"):
            network = build(config)
        costs = count_config(config, shape)
    return _rows(config, shape, network, costs, config.order or "own", config.segments)


def unconverted_rows(config: NetworkConfig, input_shape: Sequence[int]) -> pd.DataFrame:
    """The rows of a user's model before it is converted; its segments and order are ``"-"``.

    Args:
        config: a configuration named ``package.module:callable``. Its segments and order are
            ignored.
        input_shape: the shape of one example, such as ``(3, 299, 299)``.

    Raises:
        ValueError: the callable doesn't exist, fails or returns no module, or the module can't be
            counted.
    """
    shape = checked_shape(input_shape)
    network = call_user_code(
        config.name,
        num_classes=config.num_classes,
        in_channels=config.in_channels,
        width=config.width,
    )
    return _rows(config, shape, network, count_costs(network, shape), UNCONVERTED, UNCONVERTED)


def _rows(
    config: NetworkConfig,
    shape: tuple[int, int, int],
    network: nn.Module,
    costs: Costs,
    order: str,
    segments: str,
) -> pd.DataFrame:
    classes = not is_user_code(config.name) or takes_argument(config.name, "num_classes")
    point = {
        "network": config.name,
        "order": order,
        "segments": segments,
        "width": config.width,
        "classes": config.num_classes if classes else None,
        "input": _as_text(shape),
    }
    no_layers = [{"flow": "", "layer": ""} | _NO_LAYER]  # a model without costs has one row too
    layers = [point | layer for layer in _layers(network, costs) or no_layers]
    rows = pd.DataFrame(layers, columns=[*point, "flow", "layer", *_NO_LAYER])
    return rows.astype({"classes": "Int64", "segment_count": "Int64"})


def _layers(network: nn.Module, costs: Costs) -> list[dict[str, Any]]:
    """The layers in order of depth; the parts of a segmented convolution are added up."""
    counted = {row["layer"]: row for row in costs.table.to_dict("records")}
    segmented = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, SegmentedConv)
    }
    layers: dict[str, dict[str, Any]] = {}
    for row in module_rows(network):
        weight_bytes = sum(p.numel() * p.element_size() for p in row.parameters)
        counts = counted.get(row.layer, _NO_COSTS)
        if counts is _NO_COSTS and not weight_bytes:
            continue
        parent = row.layer.rpartition(".")[0]
        conv = segmented.get(parent) if row.kind in ("spatial", "pointwise") else None
        path = row.layer if conv is None else parent
        layer = layers.setdefault(path, {"flow": path.partition(".")[0], "layer": path} | _NO_LAYER)
        if conv is None or row.kind == _last_part(conv):
            layer["kind"] = row.kind if conv is None else "SegmentedConv"
            layer["output_shape"] = _as_text(counts["output_shape"])
            layer["segment_count"] = counts["segments"] if conv is None else conv.segment_count
            if conv is not None:
                layer |= _alternative_macs(conv, counts["activations"] // conv.out_channels)
        part = _conv_part(row.module)
        layer["params"] += counts["params"]
        layer["macs"] += counts["macs"]
        layer["flops"] += 2 * counts["macs"]
        layer["activations"] += counts["activations"]
        layer["weight_bytes"] += weight_bytes
        layer["segmented_macs"] += counts["macs"] if conv is not None else 0
        if part:
            layer[f"{part}_params"] += counts["params"]
            layer[f"{part}_macs"] += counts["macs"]
    return list(layers.values())


def _last_part(conv: SegmentedConv) -> str:
    """The part of a segmented convolution that runs last."""
    return "pointwise" if conv.order == "spatial_first" else "spatial"


def _conv_part(module: nn.Module) -> str:
    """``"spatial"`` or ``"pointwise"`` for a convolution, ``""`` for any other module."""
    if isinstance(module, UnevenConv2d):
        return "spatial"
    if not isinstance(module, _ConvNd):
        return ""
    return "spatial" if max(module.kernel_size) > 1 else "pointwise"


def _alternative_macs(conv: SegmentedConv, positions: int) -> dict[str, int]:
    """MACs of a regular and of a depthwise separable convolution in place of a layer."""
    area = conv.kernel_size[0] * conv.kernel_size[1]
    return {
        "regular_macs": area * conv.in_channels * conv.out_channels * positions,
        # The paper: 1/N + 1/D^2 of the regular convolution, for N outputs and a D x D kernel.
        "separable_macs": (area + conv.out_channels) * conv.in_channels * positions,
    }


def _as_text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
