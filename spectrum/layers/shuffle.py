"""Channel shuffle: moving channels so that every segment is spread over all others.

ShuffleNet (arXiv:1707.01083) and interleaved group convolutions (arXiv:1707.02725) move channels
between two convolutions in segments. Otherwise a segment of the second one would see few segments
of the first.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_CHANNELS = -3  # their dimension, with or without a batch


def interleave(x: Tensor, channels: int, segments: int, dim: int = _CHANNELS) -> Tensor:
    """Deal out the channels of near-equal segments, one of each segment in turn.

    Afterwards channel c is of segment ``c % segments``.

    Args:
        x: segments one after the other, as ``Segments.sizes`` gives them; (N, C, H, W) by default.
        channels: C. It is given because the size of a traced tensor isn't known.
        segments: the number of segments.
        dim: the dimension of the channels, counted from the last one.
    """
    return _in_layout(x, dim, lambda y, at: _interleave(y, channels, segments, at))


def separate(x: Tensor, channels: int, segments: int, dim: int = _CHANNELS) -> Tensor:
    """Collect the channels of each segment, which undoes ``interleave``.

    Args:
        x: interleaved segments; this and the others are as in ``interleave``.
        channels: C.
        segments: the number of segments.
        dim: the dimension of the channels, counted from the last one.
    """
    return _in_layout(x, dim, lambda y, at: _separate(y, channels, segments, at))


def _in_layout(x: Tensor, dim: int, move: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Move channels so that images in channels_last stay so."""
    if type(x) is Tensor and dim == _CHANNELS and x.stride(dim) == 1:
        return move(x.movedim(dim, -1), -1).movedim(-1, dim)
    return move(x, dim)


def _interleave(x: Tensor, channels: int, segments: int, dim: int) -> Tensor:
    width, wider = divmod(channels, segments)
    if not wider:
        return _transpose(x.unflatten(dim, (segments, width)), dim)
    first, others = x.split([wider * (width + 1), (segments - wider) * width], dim)
    first, last = first.unflatten(dim, (wider, width + 1)).split([width, 1], dim)
    rows = torch.cat([first, others.unflatten(dim, (segments - wider, width))], dim - 1)
    return torch.cat([_transpose(rows, dim), last.squeeze(dim)], dim)


def _separate(x: Tensor, channels: int, segments: int, dim: int) -> Tensor:
    width, wider = divmod(channels, segments)
    if not wider:
        return _transpose(x.unflatten(dim, (width, segments)), dim)
    rows, last = x.split([width * segments, wider], dim)
    columns = rows.unflatten(dim, (width, segments)).transpose(dim - 1, dim)
    first, others = columns.split([wider, segments - wider], dim - 1)
    first = torch.cat([first, last.unsqueeze(dim)], dim)
    return torch.cat([first.flatten(dim - 1, dim), others.flatten(dim - 1, dim)], dim)


def _transpose(rows: Tensor, dim: int) -> Tensor:
    """Channels in two dimensions, of which ``dim`` is the second, in the other order."""
    return rows.transpose(dim - 1, dim).flatten(dim - 1, dim)
