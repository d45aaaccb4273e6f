"""Arguments that all families take."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real

from spectrum.layers import whole

__all__ = ["MAX_WIDTH", "check_choice", "check_numbers", "scaled"]

MAX_WIDTH = 1000

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
    """Raise a ValueError for the first that is out of its range."""
    whole("num_classes", num_classes)
    whole("in_channels", in_channels)
    whole("channel_multiple", channel_multiple)
    numbers = {"width": width, "dropout": dropout, "bn_eps": bn_eps, "bn_momentum": bn_momentum}
    for name, value in numbers.items():
        fits, bounds = _BOUNDS[name]
        if not isinstance(value, Real) or not fits(value):
            raise ValueError(f"{name} (={value!r}) must be a number {bounds}")


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise a ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} (={value!r}) must be one of {', '.join(map(str, choices))}")


def scaled(channels: int, width: float, multiple: int) -> int:
    """A channel count at a width, rounded to the nearest multiple, at least one of it."""
    return max(int(channels * width / multiple + 0.5), 1) * multiple
