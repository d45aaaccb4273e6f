"""Checks of the arguments that all families of networks have."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Literal, TypeAlias

from spectrum.layers.arguments import check_int

__all__ = ["MAX_WIDTH", "Pooling", "check_choice", "check_numbers", "scale_channels"]

MAX_WIDTH = 1000
Pooling: TypeAlias = Literal["symmetric", "keras"]
"""How a pooling pads: the same on both sides, or as Keras does for ``"same"``."""

_BOUNDS: dict[str, tuple[Callable[[float], bool], str]] = {
    "width": (lambda v: 0 < v <= MAX_WIDTH, f"above 0 and at most {MAX_WIDTH}"),
    "dropout": (lambda v: 0 <= v < 1, "at least 0 and below 1"),
    "bn_eps": (lambda v: 0 < v < float("inf"), "above 0"),
    "bn_momentum": (lambda v: 0 < v <= 1, "above 0 and at most 1"),
}


def check_numbers(
    *,
    num_classes: int,
    in_channels: int,
    channel_multiple: int,
    width: float,
    dropout: float,
    bn_eps: float,
    bn_momentum: float,
) -> None:
    """Raise a ValueError that names the first argument that is out of its range."""
    check_int("num_classes", num_classes)
    check_int("in_channels", in_channels)
    check_int("channel_multiple", channel_multiple)
    numbers = {"width": width, "dropout": dropout, "bn_eps": bn_eps, "bn_momentum": bn_momentum}
    for name, value in numbers.items():
        fits, bounds = _BOUNDS[name]
        if not isinstance(value, Real) or not fits(value):
            raise ValueError(f"{name} (={value!r}) must be a number {bounds}")


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise a ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} (={value!r}) must be one of {', '.join(map(str, choices))}")


def scale_channels(channels: int, width: float, multiple: int) -> int:
    """Multiply ``channels`` by ``width`` and round to the nearest positive multiple."""
    return max(int(channels * width / multiple + 0.5), 1) * multiple
