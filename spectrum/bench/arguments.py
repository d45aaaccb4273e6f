"""What the commands' flags hold, checked before torch is imported."""

from __future__ import annotations

import math
import re
from typing import Literal, TypeAlias, cast, get_args

__all__ = [
    "LAYOUTS",
    "PLANS",
    "PRECISIONS",
    "Layout",
    "PlanName",
    "Precision",
    "choice",
    "image_shape",
    "precision_of",
    "seconds_of",
    "whole",
]

Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]
Layout: TypeAlias = Literal["contiguous", "channels_last"]
PlanName: TypeAlias = Literal["auto", "native", "merged", "relaid", "kernel"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
LAYOUTS: tuple[str, ...] = get_args(Layout)
PLANS: tuple[str, ...] = get_args(PlanName)


def whole(flag: str, text: str, most: int = 1_000_000) -> int:
    """A whole number from 1.

    Args:
        flag: its name, for the message.
        text: as it was typed.
        most: the largest that is allowed.

    Raises:
        ValueError: it is none, or out of its range.
    """
    if not re.fullmatch(r"0*[1-9]\d{0,6}", text, re.ASCII) or int(text) > most:
        raise ValueError(f"{flag} (={text!r}) must be a whole number from 1 to {most}")
    return int(text)


def seconds_of(text: str) -> float:
    """A time in seconds, above 0 and up to a day.

    Raises:
        ValueError: it is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= 86_400:
        raise ValueError(f"seconds (={text!r}) must be a number above 0, up to 86400")
    return number


def choice(flag: str, value: str, allowed: tuple[str, ...]) -> str:
    """One of several words.

    Raises:
        ValueError: it is none of them.
    """
    if value not in allowed:
        raise ValueError(f"{flag} (={value!r}) must be one of {', '.join(allowed)}")
    return value


def precision_of(text: str) -> Precision:
    """A precision by its name.

    Raises:
        ValueError: it is none.
    """
    return cast("Precision", choice("precision", text, PRECISIONS))


def image_shape(text: str) -> tuple[int, int, int]:
    """Channels, height and width of an image, ``"3x299x299"``.

    Raises:
        ValueError: it reads otherwise.
    """
    if not re.fullmatch(r"[1-9]\d{0,5}x[1-9]\d{0,5}x[1-9]\d{0,5}", text, re.ASCII):
        raise ValueError(f"input (={text!r}) must be CHANNELSxHEIGHTxWIDTH, as in 3x299x299")
    channels, height, width = map(int, text.split("x"))
    return channels, height, width
