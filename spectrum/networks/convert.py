"""Converts the k x k convolutions of any model to segmented ones."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from spectrum.copying import copy_module
from spectrum.errors import FieldError, errors_about
from spectrum.layers import (
    ORDERS,
    Order,
    SegmentedConv,
    from_conv2d,
    match_memory_format,
    pointwise_weight,
    resegment_layer,
    segmented_channels,
)
from spectrum.layers.arguments import check_choice
from spectrum.layers.spatial import UnevenConv2d, copy_parameters, plain_convs
from spectrum.networks.factory import order_for, warn_pointwise, warn_saturated
from spectrum.networks.gradients import check_gradients
from spectrum.networks.replace import (
    assign_segments,
    display_name,
    naming_layer,
    select,
    tie_weights,
    weight_owners,
)
from spectrum.segments import Segments, Setting, parse_setting

log = logging.getLogger(__name__)


def convert(
    module: nn.Module,
    segments: Setting,
    order: Order | None = "spatial_first",
    where: Callable[[str, nn.Module], bool] | None = None,
    *,
    pointwise_segments: Setting = 1,
    shuffle: bool = False,
    check: Any = None,
) -> nn.Module:
    """Copy a model with its k x k convolutions in segments.

    A dense convolution becomes a ``SegmentedConv`` of ``order``. A grouped or depthwise one
    already has pointwise neighbours and becomes ``spatial_only``: only its segments change. The
    same holds for a ``SegmentedConv``. Weights are kept if the new layer can be the same function;
    otherwise torch's generator draws new ones. Everything else stays, including device, dtype and
    mode. A log line at level INFO says of each convolution what was done, or why it was skipped.

    A model may use a convolution in other ways than calling it. For example, code that reads
    ``conv.weight`` fails after the conversion, because a ``SegmentedConv`` has no such attribute.

    Args:
        module: any model; it isn't changed.
        segments: one setting for all layers, a mapping by the model's top-level children that hold
            such layers, or a list with one setting per layer, in the order of ``named_modules()``.
            Layers that share a weight count once. A layer with fewer channels than segments gets
            one per channel, with a warning.
        order: order of the dense convolutions. None is a plain convolution at one segment and
            ``"spatial_first"`` at more.
        where: called with the name and the module of each k x k convolution; those for which it
            returns False are skipped. None converts all.
        pointwise_segments: the segments of the 1x1 that dense convolutions get, given like
            ``segments``, with one per channel of the narrower side where there are more. Layers
            that get none, and those that are a ``SegmentedConv`` already, don't use them. A warning
            says so if they are other than one.
        shuffle: whether these layers move channels, as ``SegmentedConv`` does. A warning names
            layers that don't use it.
        check: an input that the model takes, or a tuple of several. With it both models are run
            once, to see that gradients reach what they should (see below).

    Returns:
        The copy. If ``module`` is a convolution, this is a ``SegmentedConv``.

    Raises:
        ValueError: ``order`` is unknown, ``module`` is scripted, segments don't fit a layer, which
            is named, or the model can't be copied: the copy would still use a part of the
            original (see ``copy_module``), which is named with what holds it. With ``check`` also
            if a gradient through the copy reaches a parameter of the original, or doesn't reach
            one of its own whose counterpart it reaches in the original.
    """
    check_choice("order", order, (*ORDERS, None))
    if where is not None and not callable(where):
        raise FieldError("where", where, "must be callable with a name and a module")
    setting = parse_setting(segments)
    with errors_about("pointwise_segments"):
        pointwise_setting = parse_setting(pointwise_segments)

    def reason(name: str, conv: nn.Module) -> str | None:
        return None if where is None or where(name, conv) else "not chosen by where"

    selected, skipped = select(module, reason)
    first_layers = _first_layer_with_weight(module, selected)
    if not first_layers:
        warnings.warn(f"no convolution of module is converted{_main_reason(skipped)}", stacklevel=2)
        return copy_module(module)
    names = list(dict.fromkeys(first_layers.values()))
    settings = assign_segments(names, setting)
    with errors_about("pointwise_segments"):
        pointwise_settings = assign_segments(names, pointwise_setting)
    layers: dict[nn.Module, SegmentedConv] = {}
    saturated = narrow = without = different = 0
    for name, first in first_layers.items():
        conv, layer_setting = selected[name], settings[first]
        with naming_layer(name):
            layer, kept = _convert_layer(
                conv, layer_setting, order, pointwise_settings[first], shuffle
            )
        layers[conv] = layer
        origin = "carried over" if kept else "new"
        if name != first:
            tie_weights(layer, layers[selected[first]])
            origin = f"shared with {first}"
        channels = segmented_channels(layer.in_channels, layer.out_channels, layer.order)
        saturated += layer_setting.saturated(channels) != layer_setting
        without += layer.pointwise is None
        if isinstance(conv, nn.Conv2d) and layer.pointwise is not None:
            narrow += layer.pointwise_segments != pointwise_settings[first]
        elif layer.pointwise is not None:
            is_divided_otherwise = pointwise_setting != Segments(1) and _is_divided_otherwise(
                layer, pointwise_settings[first]
            )
            different += is_divided_otherwise or (shuffle and not layer.shuffle)
        log.info(
            "%s: %s, now %s, segments %d of %d channels, weights %s",
            display_name(name),
            _describe(conv),
            layer.order,
            layer.segment_count,
            channels,
            origin,
        )
    warn_saturated(setting, saturated, len(layers), stacklevel=3)
    counts = narrow, without, len(layers)
    warn_pointwise(pointwise_setting, shuffle, *counts, stacklevel=3, kept=different)
    converted = copy_module(module, layers)
    if check is not None:
        check_gradients(module, converted, check)
    return converted


def _main_reason(skipped: Mapping[str, str]) -> str:
    """Why one convolution was skipped: the first that isn't pointwise, or else the first."""
    if not skipped:
        return ": it has none"
    name, reason = min(skipped.items(), key=lambda item: item[1] == "pointwise")
    return f": {display_name(name)} is skipped, {reason}"


def _first_layer_with_weight(
    module: nn.Module, selected: Mapping[str, nn.Module]
) -> dict[str, str]:
    """Map each converted layer to the first layer that shares its weight, usually itself.

    Layers are skipped if they share more than a weight, or share it with one that isn't converted.
    """
    owners = weight_owners(module)
    sharing: dict[str, list[str]] = {}
    obstacles: dict[str, list[str]] = {}  # layers that prevent the conversion
    for name, conv in selected.items():
        sharing[name] = owners[id(conv.weight)] if isinstance(conv, nn.Conv2d) else [name]
        own = {part for part, _ in conv.named_modules(prefix=name)}
        others = [p for p in conv.parameters() if p is not getattr(conv, "weight", None)]
        holders = [holder for p in others for holder in owners[id(p)]]
        obstacles[name] = [
            holder
            for holder in sharing[name]
            if holder not in selected or _geometry(selected[holder]) != _geometry(conv)
        ]
        obstacles[name] += [holder for holder in holders if holder not in own]
    first_layers = {}
    for name, holders in sharing.items():
        # An obstacle to one layer is an obstacle to all that share its weight.
        found = [obstacle for holder in holders for obstacle in obstacles.get(holder, ())]
        if found:
            other = next((obstacle for obstacle in found if obstacle != name), holders[0])
            names = display_name(name), display_name(other)
            log.info("%s: skipped, it shares weights with %s", *names)
        else:
            first_layers[name] = holders[0]
    return first_layers


def _geometry(conv: nn.Module) -> tuple[object, ...]:
    return (type(conv), conv.in_channels, conv.out_channels, getattr(conv, "groups", None))


def _convert_layer(
    conv: nn.Module,
    segments: Segments,
    order: Order | None,
    pointwise_segments: Segments,
    shuffle: bool,
) -> tuple[SegmentedConv, bool]:
    """The layer that replaces ``conv``, and whether it is the same function."""
    if isinstance(conv, nn.Conv2d):
        own_order = order_for(segments, conv.in_channels, order)
        if conv.groups == 1 and own_order != "spatial_only":
            return _add_pointwise(conv, segments, own_order, pointwise_segments, shuffle)
        conv = from_conv2d(conv)
    assert isinstance(conv, SegmentedConv)
    layer, dropped = resegment_layer(conv, segments)
    if dropped > 0:
        _reset_parameters(layer.spatial)
    return layer, dropped == 0


def _add_pointwise(
    conv: nn.Conv2d,
    segments: Segments,
    order: Order,
    pointwise_segments: Segments,
    shuffle: bool,
) -> tuple[SegmentedConv, bool]:
    """The layer with a 1x1 that replaces a dense convolution, and whether it is the same function.

    With one segment the spatial convolution is dense. It can hold the weights of ``conv`` if its
    channels are at least as many; the 1x1 then copies the channels, each within its segment.
    """
    plain = from_conv2d(conv)
    c_in, c_out = conv.in_channels, conv.out_channels
    with torch.device(conv.weight.device):
        layer = SegmentedConv(
            c_in,
            c_out,
            plain.kernel_size,
            segments=segments.saturated(segmented_channels(c_in, c_out, order)),
            order=order,
            stride=plain.stride,
            padding=plain.padding,
            dilation=plain.dilation,
            bias=plain.bias,
            pointwise_segments=pointwise_segments.saturated(min(c_in, c_out)),
            shuffle=shuffle,
        )
    layer.to(conv.weight.dtype).train(conv.training)
    match_memory_format(layer, conv.weight)
    fits = c_out <= c_in if order == "spatial_first" else c_out >= c_in
    if layer.segment_count > 1 or not fits:
        return layer, False
    assert isinstance(layer.spatial, nn.Conv2d)
    assert layer.pointwise is not None
    with torch.no_grad():
        parts = plain_convs(layer.pointwise)
        drawn = [part.weight.clone() for part in parts]
        for part in parts:
            nn.init.dirac_(part.weight, part.groups)
        copied = (pointwise_weight(layer).flatten(1) != 0).int()  # (c_out, c_in)
        if order == "spatial_first":  # the 1x1 ignores the other rows, which stay random
            layer.spatial.weight[copied.argmax(1)] = conv.weight
        else:
            nn.init.zeros_(layer.spatial.weight)
            layer.spatial.weight[:, copied.argmax(0)] = conv.weight
        for part, weight in zip(parts, drawn, strict=True):  # rows that copy nothing stay random
            part.weight.copy_(torch.where(part.weight.any(1, keepdim=True), part.weight, weight))
    layer.requires_grad_(conv.weight.requires_grad)
    if conv.bias is not None:
        last = layer.pointwise if order == "spatial_first" else layer.spatial
        copy_parameters([conv], plain_convs(last), ["bias"])
    return layer, True


def _is_divided_otherwise(layer: SegmentedConv, pointwise_segments: Segments) -> bool:
    """Whether the 1x1 of a layer is in other segments than these."""
    own = layer.pointwise_segments
    if isinstance(own.value, tuple) or isinstance(pointwise_segments.value, tuple):
        return own != pointwise_segments
    channels = min(layer.in_channels, layer.out_channels)
    return pointwise_segments.count(channels, saturate=True) != layer.pointwise_segment_count


def _reset_parameters(spatial: nn.Conv2d | UnevenConv2d) -> None:
    """Draw new weights for a spatial convolution and let them require gradients."""
    for part in plain_convs(spatial):
        part.reset_parameters()
    spatial.requires_grad_(True)


def _describe(conv: nn.Module) -> str:
    if isinstance(conv, SegmentedConv):
        return f"{conv.order}, segments {conv.segment_count}"
    assert isinstance(conv, nn.Conv2d)
    size = "x".join(map(str, conv.kernel_size))
    return f"dense {size}" if conv.groups == 1 else f"{size} in {conv.groups} groups"
