"""What a user chooses about costs. Importing this module imports no torch."""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator

from spectrum.fields import Facts

Matching: TypeAlias = Literal["params", "macs", "latency", "none"]
"""``"none"`` leaves the width of a network alone; the others solve it for a budget of that cost."""

CountedCost: TypeAlias = Literal["params", "macs", "activations"]
"""The costs that are counted for one image."""

MeasuredPrecision: TypeAlias = Literal["float32", "bfloat16", "float16"]


def _check_shape(text: str) -> str:
    if not re.fullmatch(r"[1-9]\d{0,5}x[1-9]\d{0,5}x[1-9]\d{0,5}", text, re.ASCII):
        raise ValueError("must be CHANNELSxHEIGHTxWIDTH, as in 3x299x299")
    return text


ImageShape: TypeAlias = Annotated[str, AfterValidator(_check_shape), Facts(metavar="CxHxW")]
"""The shape of an image as text, for a field of a configuration."""


def parse_shape(text: str) -> tuple[int, int, int]:
    """The channels, height and width that a checked ``ImageShape`` says."""
    channels, height, width = map(int, text.split("x"))
    return channels, height, width
