"""Gives a trained network another number of segments while keeping its weights."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pandas as pd
from torch import nn

from spectrum.copying import copy_module
from spectrum.errors import FieldError, errors_about
from spectrum.layers import (
    SegmentedConv,
    from_conv2d,
    resegment_layer,
    resegment_pointwise,
    segmented_channels,
)
from spectrum.layers.arguments import check_choice
from spectrum.networks.gradients import check_gradients
from spectrum.networks.replace import (
    assign_segments,
    display_name,
    naming_layer,
    select,
    weight_owners,
)
from spectrum.segments import Segments, Setting

log = logging.getLogger(__name__)

_SHARED = "it shares weights"


def resegment(
    module: nn.Module,
    segments: Setting,
    *,
    pointwise_segments: Setting | None = None,
    shuffle: bool | None = None,
    check: Any = None,
) -> nn.Module:
    """Copy a network with other segments and the closest kernels to the old ones.

    A segmented kernel is a block-diagonal dense kernel. If every new segment is a union of old
    ones (as from one per channel to anything), the new network gives the same outputs. Otherwise
    each kernel becomes the closest one that the new segments allow; ``projection_loss`` measures
    how close.

    Args:
        module: a network with segmented layers: ``SegmentedConv``, and grouped or depthwise
            ``nn.Conv2d``, which become ``spatial_only`` ones. It isn't changed.
        segments: one setting for all segmented layers, a mapping by flow (the network's top-level
            children that hold such layers), or a list with one setting per layer, in order of
            ``named_modules()``. A layer with fewer channels than segments gets one per channel.
        pointwise_segments: the segments of their 1x1 convolutions, given like ``segments``; None to
            keep them. Weights outside the new segments are dropped, as for the other kernels. Other
            1x1 convolutions, such as those of a ShuffleNet, stay as they are.
        shuffle: whether layers with a 1x1 move channels, as ``SegmentedConv`` does; None to keep it
            as it is.
        check: an input that the network takes, as in ``convert``.

    Returns:
        A new network on the same device, of the same type and mode.

    Raises:
        ValueError: there is no segmented layer, segments don't fit a layer, which is named,
            ``pointwise_segments`` or ``shuffle`` is given although no segmented layer has a 1x1, or
            the network can't be copied or fails the check, as in ``convert``.
    """
    layers: dict[nn.Module, nn.Module] = {}
    for name, _, new, dropped, pointwise_dropped in _resegment_layers(
        module, segments, pointwise_segments, shuffle
    ):
        layers[module.get_submodule(name)] = new
        log.info(
            "%s: segments %d, %.2g of the kernel's energy dropped",
            display_name(name),
            new.segment_count,
            dropped,
        )
        if pointwise_dropped is not None:
            log.info(
                "%s: pointwise segments %d, %.2g of the energy of the 1x1 dropped",
                display_name(name),
                new.pointwise_segment_count,
                pointwise_dropped,
            )
    changed = copy_module(module, layers)
    if check is not None:
        check_gradients(module, changed, check)
    return changed


def projection_loss(
    module: nn.Module,
    segments: Setting,
    *,
    pointwise_segments: Setting | None = None,
    shuffle: bool | None = None,
) -> pd.DataFrame:
    """Compute how much of each kernel ``resegment`` would drop.

    Args:
        module: the network; this and the others are as in ``resegment``.
        segments: the new segments.
        pointwise_segments: the new segments of the 1x1 convolutions.
        shuffle: whether layers move channels.

    Returns:
        One row per layer: ``layer, channels, segments_before, segments_after, dropped``. The last
        is the fraction of the kernel's energy (sum of squares) outside the new segments; it is 0
        if the layer stays the same function. With ``pointwise_segments`` or ``shuffle`` also
        ``pointwise_before, pointwise_after, pointwise_dropped``, the same of the 1x1: 0 segments
        and NaN for a layer without one.

    Raises:
        ValueError: as in ``resegment``.
    """
    rows = [
        {
            "layer": name,
            "channels": segmented_channels(new.in_channels, new.out_channels, new.order),
            "segments_before": old.segment_count,
            "segments_after": new.segment_count,
            "dropped": dropped,
            "pointwise_before": old.pointwise_segment_count,
            "pointwise_after": new.pointwise_segment_count,
            "pointwise_dropped": pointwise_dropped,
        }
        for name, old, new, dropped, pointwise_dropped in _resegment_layers(
            module, segments, pointwise_segments, shuffle
        )
    ]
    table = pd.DataFrame(rows)
    if pointwise_segments is None and shuffle is None:
        return table.drop(columns=table.filter(like="pointwise_"))
    return table.astype({"pointwise_dropped": float})


def _resegment_layers(
    module: nn.Module,
    segments: Setting,
    pointwise_segments: Setting | None,
    shuffle: bool | None,
) -> Iterator[tuple[str, SegmentedConv, SegmentedConv, float, float | None]]:
    """Yield each segmented layer's name, the layer, the new one and the energy dropped.

    The last is that of the 1x1, None where it stays as it is.
    """
    if shuffle is not None:
        check_choice("shuffle", shuffle, (True, False))
    owners = weight_owners(module)

    def reason(_name: str, conv: nn.Module) -> str | None:
        if isinstance(conv, nn.Conv2d) and conv.groups == 1:
            return "dense"
        is_shared = any(len(owners[id(parameter)]) > 1 for parameter in conv.parameters())
        return _SHARED if is_shared else None

    selected, skipped = select(module, reason)
    tied = list(skipped.values()).count(_SHARED)
    if not selected:
        shared = f" that share no weights ({tied} do)" if tied else ""
        raise ValueError(
            "module must have segmented layers: SegmentedConv, or grouped k x k convolutions"
            + shared
        )
    if tied:
        warnings.warn(f"{tied} layers share weights and keep their segments", stacklevel=3)
    if not any(getattr(conv, "pointwise", None) is not None for conv in selected.values()):
        for field, value in (("pointwise_segments", pointwise_segments), ("shuffle", shuffle)):
            if value is not None:
                allowed = (
                    "must be None: only 1x1 convolutions of SegmentedConvs are divided, and the "
                    "network has none; the groups of a ShuffleNet are set by build"
                )
                raise FieldError(field, value, allowed)
    pointwise: dict[str, Segments] = {}
    if pointwise_segments is not None:
        with errors_about("pointwise_segments"):
            pointwise = assign_segments(list(selected), pointwise_segments)
    for name, layer_setting in assign_segments(list(selected), segments).items():
        conv, pointwise_dropped = selected[name], None
        old = conv if isinstance(conv, SegmentedConv) else from_conv2d(conv)
        with naming_layer(name):
            new, dropped = resegment_layer(old, layer_setting)
            if old.pointwise is not None and (pointwise or shuffle is not None):
                layer_pointwise = pointwise.get(name, old.pointwise_segments)
                new, pointwise_dropped = resegment_pointwise(new, layer_pointwise, shuffle)
        yield name, old, new, dropped, pointwise_dropped
