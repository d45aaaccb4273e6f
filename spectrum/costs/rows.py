"""The costs of a network as tidy rows, one a layer, beside what its dialled layers replace."""

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
from spectrum.networks import NetworkConfig, build, call_code, is_code, takes

__all__ = ["cost_rows", "rows_as_it_is"]

AS_IT_IS = "-"  # the segments and the order of a user's model that isn't converted
_NOTHING: dict[str, Any] = {
    **{"output_shape": (), "segments": None},
    **{"params": 0, "macs": 0, "activations": 0},
}
_ZEROS: dict[str, Any] = {
    **{"kind": "", "output_shape": "", "segment_count": None},
    **dict.fromkeys(("params", "macs", "flops", "activations", "weight_bytes"), 0),
    **dict.fromkeys(("spatial_params", "pointwise_params", "spatial_macs", "pointwise_macs"), 0),
    **dict.fromkeys(("dialled_macs", "regular_macs", "separable_macs"), 0),
}


def cost_rows(config: NetworkConfig, input_shape: Sequence[int]) -> pd.DataFrame:
    """The costs of a network, a row a layer; a segmented convolution is one layer.

    Args:
        config: the network.
        input_shape: of one example, as in ``(3, 299, 299)``.

    Returns:
        ``network, order`` ("own" for the network's own), ``segments`` (the setting),
        ``width, classes`` (missing for a user's model that doesn't take it), ``input``;
        ``flow`` (the first part of the layer's path), ``layer, kind, output_shape,
        segment_count``; ``params`` (trainable), ``macs, flops`` (2 x MACs), ``activations``,
        ``weight_bytes`` (of all parameters), ``spatial_params, pointwise_params, spatial_macs,
        pointwise_macs`` (convolutions larger than 1x1, and 1x1); and for dialled layers (0 for
        others) ``dialled_macs`` with what would take their place at the same channels:
        ``regular_macs``, k*k*c_in*c_out at each position of the output, a regular convolution,
        and ``separable_macs``, the same times 1/c_out + 1/(k*k), the paper's depthwise separable
        one.

    Raises:
        ValueError: as ``count_config``.
    """
    shape = checked_shape(input_shape)
    if is_code(config.name):
        network = build(config)
        costs = count_costs(network, shape)
    else:
        with torch.device("meta"):
            network = build(config)
        costs = count_config(config, shape)
    return _rows(config, shape, network, costs, config.order or "own", config.segments)


def rows_as_it_is(config: NetworkConfig, input_shape: Sequence[int]) -> pd.DataFrame:
    """The rows of a user's model before it is converted, ``"-"`` its segments and its order.

    Args:
        config: its name is the callable's, ``package.module:callable``; segments and order don't
            matter.
        input_shape: of one example, as in ``(3, 299, 299)``.

    Raises:
        ValueError: the callable isn't there, fails or returns no module, or that can't be counted.
    """
    shape = checked_shape(input_shape)
    network = call_code(
        config.name,
        num_classes=config.num_classes,
        in_channels=config.in_channels,
        width=config.width,
    )
    return _rows(config, shape, network, count_costs(network, shape), AS_IT_IS, AS_IT_IS)


def _rows(
    config: NetworkConfig,
    shape: tuple[int, int, int],
    network: nn.Module,
    costs: Costs,
    order: str,
    segments: str,
) -> pd.DataFrame:
    classes = not is_code(config.name) or takes(config.name, "num_classes")
    point = {
        "network": config.name,
        "order": order,
        "segments": segments,
        "width": config.width,
        "classes": config.num_classes if classes else None,
        "input": _as_text(shape),
    }
    nothing = [{"flow": "", "layer": ""} | _ZEROS]  # a model without any costs is a row still
    layers = [point | layer for layer in _layers(network, costs) or nothing]
    rows = pd.DataFrame(layers, columns=[*point, "flow", "layer", *_ZEROS])
    return rows.astype({"classes": "Int64", "segment_count": "Int64"})


def _layers(network: nn.Module, costs: Costs) -> list[dict[str, Any]]:
    """The layers in order of depth, the parts of a segmented convolution together."""
    counted = {row["layer"]: row for row in costs.table.to_dict("records")}
    dialled = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, SegmentedConv)
    }
    layers: dict[str, dict[str, Any]] = {}
    for row in module_rows(network):
        size = sum(p.numel() * p.element_size() for p in row.parameters)
        own = counted.get(row.layer, _NOTHING)
        if own is _NOTHING and not size:
            continue
        parent = row.layer.rpartition(".")[0]
        whole = dialled.get(parent) if row.kind in ("spatial", "pointwise") else None
        path = row.layer if whole is None else parent
        layer = layers.setdefault(path, {"flow": path.partition(".")[0], "layer": path} | _ZEROS)
        if whole is None or row.kind == _last(whole):
            layer["kind"] = row.kind if whole is None else "SegmentedConv"
            layer["output_shape"] = _as_text(own["output_shape"])
            layer["segment_count"] = own["segments"] if whole is None else whole.segment_count
            if whole is not None:
                layer |= _in_its_place(whole, own["activations"] // whole.out_channels)
        part = _part(row.module)
        layer["params"] += own["params"]
        layer["macs"] += own["macs"]
        layer["flops"] += 2 * own["macs"]
        layer["activations"] += own["activations"]
        layer["weight_bytes"] += size
        layer["dialled_macs"] += own["macs"] if whole is not None else 0
        if part:
            layer[f"{part}_params"] += own["params"]
            layer[f"{part}_macs"] += own["macs"]
    return list(layers.values())


def _last(conv: SegmentedConv) -> str:
    """The part of a segmented convolution that runs last."""
    return "pointwise" if conv.order == "spatial_first" else "spatial"


def _part(module: nn.Module) -> str:
    """Whether a module is a spatial or a pointwise convolution, or ("") neither."""
    if isinstance(module, UnevenConv2d):
        return "spatial"
    if not isinstance(module, _ConvNd):
        return ""
    return "spatial" if max(module.kernel_size) > 1 else "pointwise"


def _in_its_place(conv: SegmentedConv, positions: int) -> dict[str, int]:
    """Multiply-adds of the two ends of the dial at a layer's channels and output positions."""
    area = conv.kernel_size[0] * conv.kernel_size[1]
    return {
        "regular_macs": area * conv.in_channels * conv.out_channels * positions,
        # The paper's 1/N + 1/D^2 of the regular one, N outputs and a kernel of D x D.
        "separable_macs": (area + conv.out_channels) * conv.in_channels * positions,
    }


def _as_text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
