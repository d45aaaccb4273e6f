"""Parsing and checking the flags of the commands, before torch is imported."""

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
    "check_choice",
    "parse_image_shape",
    "parse_int",
    "parse_precision",
    "parse_seconds",
]

Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]
Layout: TypeAlias = Literal["contiguous", "channels_last"]
PlanName: TypeAlias = Literal["auto", "native", "merged", "relaid", "kernel"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
LAYOUTS: tuple[str, ...] = get_args(Layout)
PLANS: tuple[str, ...] = get_args(PlanName)


def parse_int(flag: str, text: str, most: int = 1_000_000) -> int:
    """Parse a whole number from 1.

    Args:
        flag: the name of the flag, for the message.
        text: the value as it was typed.
        most: the largest value that is allowed.

    Raises:
        ValueError: ``text`` isn't a whole number in that range.
    """
    if not re.fullmatch(r"0*[1-9]\d{0,6}", text, re.ASCII) or int(text) > most:
        raise ValueError(f"{flag} (={text!r}) must be a whole number from 1 to {most}")
    return int(text)


def parse_seconds(text: str) -> float:
    """Parse a time in seconds, above 0 and up to a day.

    Raises:
        ValueError: ``text`` isn't such a number.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= 86_400:
        raise ValueError(f"seconds (={text!r}) must be a number above 0, up to 86400")
    return number


def check_choice(flag: str, value: str, allowed: tuple[str, ...]) -> str:
    """Check that a value is one of the allowed words, and return it.

    Raises:
        ValueError: the value is none of them.
    """
    if value not in allowed:
        raise ValueError(f"{flag} (={value!r}) must be one of {', '.join(allowed)}")
    return value


def parse_precision(text: str) -> Precision:
    """Parse the name of a precision.

    Raises:
        ValueError: there is no such precision.
    """
    return cast("Precision", check_choice("precision", text, PRECISIONS))


def parse_image_shape(text: str) -> tuple[int, int, int]:
    """Parse the channels, height and width of an image, such as ``"3x299x299"``.

    Raises:
        ValueError: ``text`` doesn't have this form.
    """
    if not re.fullmatch(r"[1-9]\d{0,5}x[1-9]\d{0,5}x[1-9]\d{0,5}", text, re.ASCII):
        raise ValueError(f"input (={text!r}) must be CHANNELSxHEIGHTxWIDTH, as in 3x299x299")
    channels, height, width = map(int, text.split("x"))
    return channels, height, width
