"""Any model on the dial: its k x k convolutions become segmented ones."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping

import torch
from torch import nn

from spectrum.layers import (
    ORDERS,
    Order,
    SegmentedConv,
    dialled_channels,
    keep_layout,
    put_on_dial,
    resegmented,
)
from spectrum.networks.dial import order_at, warn_saturated
from spectrum.networks.replace import (
    check_module,
    convolutions,
    replaced,
    shown,
    tie,
    unknown_function,
    weight_owners,
)
from spectrum.segments import Segments, Setting, layer_segments, parse_setting

__all__ = ["convert"]

log = logging.getLogger(__name__)


def convert(
    module: nn.Module,
    segments: Setting,
    order: Order | None = "spatial_first",
    where: Callable[[str, nn.Module], bool] | None = None,
) -> nn.Module:
    """A copy of a model with its k x k convolutions at a point of the dial.

    A dense convolution becomes a ``SegmentedConv`` of ``order``. A grouped or depthwise one, which
    has its pointwise neighbours already, becomes one that is ``spatial_only``: just its segments
    change, as those of a ``SegmentedConv`` do. Weights are carried over where the new layer can be
    the same function and drawn anew, from torch's random state, where it can't. All else, and
    device, dtype and mode, stays as it was. A line at level INFO tells of each convolution what
    was done, or why it was left.

    What a model does with a convolution other than calling it isn't seen: code of its own that
    reads ``conv.weight``, say, doesn't find it in a ``SegmentedConv``.

    Args:
        module: any model; it isn't changed.
        segments: one setting for all layers, a mapping by the model's top-level children that hold
            such layers, or a list with one a layer in the order of ``named_modules()``, layers
            that share a weight counting once. A layer with fewer channels than segments takes one
            a channel, with a warning.
        order: for the dense ones. None keeps a plain convolution at one segment and takes
            ``"spatial_first"`` at more.
        where: called with the name and the module of each k x k convolution; those for which it
            is false are left. None for all.

    Returns:
        The copy; a lone convolution gives a ``SegmentedConv``.

    Raises:
        ValueError: an unknown order, a scripted module, or segments that don't fit a layer, which
            is named.
    """
    if order is not None and order not in ORDERS:
        raise ValueError(f"order (={order!r}) must be one of {', '.join(ORDERS)}")
    if where is not None and not callable(where):
        raise ValueError(f"where (={where!r}) must be callable with a name and a module")
    check_module(module)
    segments = parse_setting(segments)
    chosen, left = _chosen(module, where)
    leaders = _leaders(module, chosen)
    names = list(dict.fromkeys(leaders.values()))
    flows = [name.partition(".")[0] for name in names]
    points = dict(zip(names, layer_segments(segments, flows), strict=True)) if names else {}
    layers: dict[nn.Module, SegmentedConv] = {}
    saturating = 0
    for name, leader in leaders.items():
        conv, point = chosen[name], points[leader]
        try:
            layer, carried = _at_point(conv, point, order)
        except ValueError as error:
            raise ValueError(f"{error} (layer {shown(name)})") from None
        layers[conv] = layer
        if name != leader:
            tie(layer, layers[chosen[leader]])
        channels = dialled_channels(layer.in_channels, layer.out_channels, layer.order)
        saturating += point.saturates(channels)
        log.info(
            "%s: %s, now %s, segments %d of %d channels, weights %s",
            shown(name),
            _kind(conv),
            layer.order,
            layer.segment_count,
            channels,
            f"shared with {leader}" if name != leader else "carried over" if carried else "new",
        )
    if not layers:
        warnings.warn(f"no convolution of module is put on the dial{_reasons(left)}", stacklevel=2)
    warn_saturated(segments, saturating, len(layers), stacklevel=3)
    return replaced(module, layers)


def _chosen(
    module: nn.Module, where: Callable[[str, nn.Module], bool] | None
) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """The convolutions to change, and why the others are left, which the log says too."""
    chosen, left = {}, {}
    for name, conv in convolutions(module):
        reason = unknown_function(conv)
        if isinstance(conv, nn.Conv2d) and set(conv.kernel_size) == {1}:
            reason = "pointwise"
        if reason is None and where is not None and not where(name, conv):
            reason = "not chosen by where"
        if reason is None:
            chosen[name] = conv
        else:
            left[name] = reason
            log.info("%s: left, %s", shown(name), reason)
    return chosen, left


def _reasons(left: Mapping[str, str]) -> str:
    """Why the first of those that were left was, one that is larger than 1x1 if there is any."""
    reasons = sorted(left.items(), key=lambda item: item[1] == "pointwise")
    return f": {shown(reasons[0][0])} is left, {reasons[0][1]}" if reasons else ": it has none"


def _leaders(module: nn.Module, chosen: Mapping[str, nn.Module]) -> dict[str, str]:
    """For each layer to change, the first one of the same weight: mostly the layer itself.

    Layers that share more than a weight, or share it with one that stays as it is, are left.
    """
    owners = weight_owners(module)
    sharing: dict[str, list[str]] = {}
    strangers: dict[str, list[str]] = {}
    for name, conv in chosen.items():
        sharing[name] = owners[id(conv.weight)] if isinstance(conv, nn.Conv2d) else [name]
        others = [p for p in conv.parameters() if p is not getattr(conv, "weight", None)]
        own = {part for part, _ in conv.named_modules(prefix=name)}
        strangers[name] = [
            holder
            for holder in sharing[name]
            if holder not in chosen or _geometry(chosen[holder]) != _geometry(conv)
        ]
        strangers[name] += [h for p in others for h in owners[id(p)] if h not in own]
    leaders = {}
    for name, holders in sharing.items():
        # One that stays holds back all that share its weight.
        found = [stranger for holder in holders for stranger in strangers.get(holder, ())]
        if found:
            other = next((stranger for stranger in found if stranger != name), holders[0])
            log.info("%s: left, it shares weights with %s", shown(name), shown(other))
        else:
            leaders[name] = holders[0]
    return leaders


def _geometry(conv: nn.Module) -> tuple[object, ...]:
    return (type(conv), conv.in_channels, conv.out_channels, getattr(conv, "groups", None))


def _at_point(conv: nn.Module, point: Segments, order: Order | None) -> tuple[SegmentedConv, bool]:
    """The layer that takes the place of ``conv``, and whether it is the same function."""
    if isinstance(conv, nn.Conv2d):
        if conv.groups == 1 and order_at(point, conv.in_channels, order) != "spatial_only":
            return _with_pointwise(conv, point, order_at(point, conv.in_channels, order))
        conv = put_on_dial(conv)
    assert isinstance(conv, SegmentedConv)
    layer, dropped = resegmented(conv, point)
    if dropped > 0:
        _draw(layer.spatial)
    return layer, dropped == 0


def _with_pointwise(conv: nn.Conv2d, point: Segments, order: Order) -> tuple[SegmentedConv, bool]:
    """A dense convolution as one of an order with a 1x1, which is where it has the room.

    At one segment the spatial convolution is dense on as many channels as the dial divides, and
    the 1x1 passes the channels of ``conv`` on alone.
    """
    plain = put_on_dial(conv)
    c_in, c_out = conv.in_channels, conv.out_channels
    with torch.device(conv.weight.device):
        layer = SegmentedConv(
            c_in,
            c_out,
            plain.kernel_size,
            segments=point.saturated(dialled_channels(c_in, c_out, order)),
            order=order,
            stride=plain.stride,
            padding=plain.padding,
            dilation=plain.dilation,
            bias=plain.bias,
        )
    layer.to(conv.weight.dtype).train(conv.training)
    keep_layout(layer, conv.weight)
    room = c_out <= c_in if order == "spatial_first" else c_out >= c_in
    if layer.segment_count > 1 or not room:
        return layer, False
    assert isinstance(layer.spatial, nn.Conv2d)
    assert layer.pointwise is not None
    last = layer.pointwise if order == "spatial_first" else layer.spatial
    with torch.no_grad():
        if order == "spatial_first":  # the rows beyond, which the 1x1 doesn't take, stay drawn
            layer.spatial.weight[:c_out] = conv.weight
        else:
            nn.init.zeros_(layer.spatial.weight)
            layer.spatial.weight[:, :c_in] = conv.weight
        nn.init.dirac_(layer.pointwise.weight[:c_in])
    layer.requires_grad_(conv.weight.requires_grad)
    if conv.bias is not None and last.bias is not None:
        with torch.no_grad():
            last.bias.copy_(conv.bias)
        last.bias.requires_grad_(conv.bias.requires_grad)
    return layer, True


def _draw(spatial: nn.Module) -> None:
    """New weights for a spatial convolution; a frozen one must learn again."""
    for part in spatial.modules():
        if isinstance(part, nn.Conv2d):
            part.reset_parameters()
    spatial.requires_grad_(True)


def _kind(conv: nn.Module) -> str:
    if isinstance(conv, SegmentedConv):
        return f"{conv.order}, segments {conv.segment_count}"
    assert isinstance(conv, nn.Conv2d)
    size = "x".join(map(str, conv.kernel_size))
    return f"dense {size}" if conv.groups == 1 else f"{size} in {conv.groups} groups"
