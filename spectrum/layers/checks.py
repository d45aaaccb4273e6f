"""Arguments that must be whole numbers."""

from __future__ import annotations

import operator

__all__ = ["whole"]


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
