"""The arguments that layers take: their choices, and what is checked of them."""

from __future__ import annotations

import operator
from typing import Literal, TypeAlias, get_args

from torch import nn

__all__ = [
    "ACTIVATIONS",
    "ORDERS",
    "Activation",
    "Order",
    "Pair",
    "check_activation",
    "paddings",
    "pair",
    "whole",
]

Pair: TypeAlias = tuple[int, int]
Order: TypeAlias = Literal["spatial_first", "pointwise_first", "spatial_only"]
Activation: TypeAlias = Literal["relu", "elu"]
ORDERS: tuple[str, ...] = get_args(Order)
ACTIVATIONS: dict[str | None, type[nn.Module]] = {
    None: nn.Identity,
    "relu": nn.ReLU,
    "elu": nn.ELU,
}


def whole(name: str, value: object, least: int = 1) -> int:
    """``value`` as an integer.

    Args:
        name: of the argument, for the message.
        value: what was given.
        least: the smallest that is allowed.

    Raises:
        ValueError: it isn't a whole number, or it is below ``least``.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise ValueError(f"{name} (={value!r}) must be a whole number from {least}")
    return number


def pair(name: str, value: object, least: int = 1) -> Pair:
    """``value`` as (height, width): one whole number for both, or two.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, tuple | list):
        if len(value) != 2:
            raise ValueError(f"{name} (={value!r}) must be one number or (height, width)")
        return whole(name, value[0], least), whole(name, value[1], least)
    both = whole(name, value, least)
    return both, both


def check_activation(activation: object) -> None:
    """Raise a ValueError unless it is one of ``ACTIVATIONS``."""
    if activation not in tuple(ACTIVATIONS):
        raise ValueError(f"activation (={activation!r}) must be None, 'relu' or 'elu'")


def paddings(padding: int | Pair | None, kernel: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """The zeros before and after, each (height, width).

    Args:
        padding: on either side, or None for dilation * (kernel - 1) in all, the smaller half
            before.
        kernel: of the convolution.
        dilation: between its elements.
    """
    if padding is not None:
        both = pair("padding", padding, least=0)
        return both, both
    total = (dilation[0] * (kernel[0] - 1), dilation[1] * (kernel[1] - 1))
    before = (total[0] // 2, total[1] // 2)
    return before, (total[0] - before[0], total[1] - before[1])
