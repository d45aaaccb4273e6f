"""Moving a network along the dial with its weights, without starting over."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import pandas as pd
from torch import nn

from spectrum.layers import SegmentedConv, dialled_channels, put_on_dial, resegmented
from spectrum.networks.replace import (
    check_module,
    convolutions,
    replaced,
    shown,
    unknown_function,
    weight_owners,
)
from spectrum.segments import Setting, layer_segments

__all__ = ["projection_loss", "resegment"]

log = logging.getLogger(__name__)


def resegment(module: nn.Module, segments: Setting) -> nn.Module:
    """The same network at another point of the dial, as close to it as that point allows.

    A segmented kernel is a block-diagonal one, so where every new segment is a union of old ones
    (from one a channel to anything) the new network gives the same outputs. Elsewhere each
    kernel becomes the closest that the new segments allow; ``projection_loss`` says how close.

    Args:
        module: a network with layers on the dial: ``SegmentedConv``, and grouped or depthwise
            ``nn.Conv2d``, which become ``spatial_only`` ones. It isn't changed.
        segments: one setting for all layers, a mapping by flow (the network's top-level children
            that hold such layers), or a list with one a layer, in order of ``named_modules()``. A
            layer with fewer channels than segments takes one a channel.

    Returns:
        A new network on the same device, of the same type and mode.

    Raises:
        ValueError: there is no layer on the dial, or segments don't fit a layer, which is named.
    """
    layers: dict[nn.Module, nn.Module] = {}
    for name, old, new, dropped in _moved(module, segments):
        layers[old] = new
        log.info(
            "%s: segments %d, %.2g of the kernel's energy dropped",
            shown(name),
            new.segment_count,
            dropped,
        )
    return replaced(module, layers)


def projection_loss(module: nn.Module, segments: Setting) -> pd.DataFrame:
    """What ``resegment`` would drop of each kernel.

    Args:
        module: as in ``resegment``.
        segments: likewise.

    Returns:
        A row a layer: ``layer, channels, segments_before, segments_after, dropped``, the share of
        the kernel's energy (sum of squares) outside the new segments: 0 where the layer stays the
        same function.

    Raises:
        ValueError: as ``resegment``.
    """
    rows = [
        {
            "layer": name,
            "channels": dialled_channels(new.in_channels, new.out_channels, new.order),
            "segments_before": old.segment_count if isinstance(old, SegmentedConv) else old.groups,
            "segments_after": new.segment_count,
            "dropped": dropped,
        }
        for name, old, new, dropped in _moved(module, segments)
    ]
    return pd.DataFrame(rows)


def _moved(
    module: nn.Module, segments: Setting
) -> Iterator[tuple[str, nn.Conv2d | SegmentedConv, SegmentedConv, float]]:
    """Name, layer, its counterpart at the new point, and the share of energy dropped."""
    check_module(module)
    owners = weight_owners(module)
    tied = 0
    found: dict[str, nn.Conv2d | SegmentedConv] = {}
    for name, conv in convolutions(module):
        if isinstance(conv, nn.Conv2d) and (conv.groups == 1 or set(conv.kernel_size) == {1}):
            continue
        reason = unknown_function(conv)
        if any(len(owners[id(parameter)]) > 1 for parameter in conv.parameters()):
            reason = "it shares weights"
            tied += 1
        if reason is not None:
            log.info("%s: left, %s", shown(name), reason)
        elif isinstance(conv, nn.Conv2d | SegmentedConv):
            found[name] = conv
    if not found:
        shared = f" that share no weights ({tied} do)" if tied else ""
        raise ValueError(
            "module must have layers on the dial: SegmentedConv, or grouped k x k convolutions"
            + shared
        )
    if tied:
        warnings.warn(f"{tied} layers share weights and keep their segments", stacklevel=3)
    points = layer_segments(segments, [name.partition(".")[0] for name in found])
    for (name, conv), point in zip(found.items(), points, strict=True):
        try:
            old = conv if isinstance(conv, SegmentedConv) else put_on_dial(conv)
            new, dropped = resegmented(old, point)
        except ValueError as error:
            raise ValueError(f"{error} (layer {shown(name)})") from None
        yield name, conv, new, dropped
