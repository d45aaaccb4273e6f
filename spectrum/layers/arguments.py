"""The arguments of layers: what they may be, and the functions that check them."""

from __future__ import annotations

import operator
from typing import Literal, TypeAlias, get_args

from spectrum.errors import FieldError

Pair: TypeAlias = tuple[int, int]
Order: TypeAlias = Literal["spatial_first", "pointwise_first", "spatial_only"]
Activation: TypeAlias = Literal["relu", "elu"]
ORDERS: tuple[str, ...] = get_args(Order)
ACTIVATIONS: tuple[str, ...] = get_args(Activation)
MAX_CHANNELS = 10_000_000  # more than any network has at the largest width
MAX_SIDE = 10_000  # of kernels, strides, paddings and dilations


def check_int(name: str, value: object, minimum: int = 1, maximum: int = 10**18) -> int:
    """Return ``value`` as an integer.

    Args:
        name: the name of the argument, for the message.
        value: the value of the argument.
        minimum: the smallest value that is allowed.
        maximum: the largest value that is allowed.

    Raises:
        FieldError: ``value`` isn't a whole number, or it is out of these bounds.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = minimum - 1
    if isinstance(value, bool) or number < minimum:
        raise FieldError(name, value, f"must be a whole number from {minimum}")
    if number > maximum:
        raise FieldError(name, value, f"must be at most {maximum}")
    return number


def check_pair(name: str, value: object, minimum: int = 1) -> Pair:
    """Return ``value``, one whole number for both or a pair of them, as (height, width).

    Raises:
        FieldError: ``value`` is neither, or a number is below ``minimum`` or above ``MAX_SIDE``.
    """
    pair = value if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2:
        raise FieldError(name, value, "must be one number or (height, width)")
    return check_int(name, pair[0], minimum, MAX_SIDE), check_int(name, pair[1], minimum, MAX_SIDE)


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise a FieldError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise FieldError(name, value, f"must be one of {', '.join(map(str, choices))}")


def paddings(padding: int | Pair | None, kernel: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """The numbers of zeros before and after an image, each (height, width).

    Args:
        padding: zeros on either side. None gives dilation * (kernel - 1) in all, the smaller half
            before.
        kernel: size of the kernel.
        dilation: dilation of the kernel.
    """
    if padding is not None:
        both = check_pair("padding", padding, minimum=0)
        return both, both
    total = (dilation[0] * (kernel[0] - 1), dilation[1] * (kernel[1] - 1))
    before = (total[0] // 2, total[1] // 2)
    return before, (total[0] - before[0], total[1] - before[1])
