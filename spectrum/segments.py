"""The dial: how many channel-space segments a spatial convolution is divided into.

A setting is one value for a whole network, a mapping by flow, or a sequence with one value per
layer. This module works on text and numbers and imports no torch.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import SupportsIndex, TypeAlias

__all__ = [
    "UNCONVERTED",
    "Segments",
    "SegmentsLike",
    "Setting",
    "format_setting",
    "layer_segments",
    "parse_points",
    "parse_setting",
]

UNCONVERTED = "-"
"""Stands for the segments and the order of a user's model that isn't converted."""

_ALLOWED = "a whole number from 1, 'C', 'C/n', or sizes as in (16, 8, 8) or '16:8:8'"
_NUMBER = re.compile(r"0*[1-9][0-9]{0,8}")
_MAX = 999_999_999  # the largest number that _NUMBER matches; no layer has as many channels


@dataclass(frozen=True, init=False)
class Segments:
    """A number of channel-space segments, which may depend on the number of channels C.

    Args:
        value: ``4`` or ``"4"`` is four segments; ``"C"`` is one per channel; ``"C/8"`` is
            ceil(C/8), about eight channels each; ``(16, 8, 8)`` or ``"16:8:8"`` is explicit sizes.

    Raises:
        ValueError: ``value`` is none of these; the message names it and what is allowed.
    """

    value: int | str | tuple[int, ...]

    def __init__(self, value: SegmentsLike) -> None:
        object.__setattr__(self, "value", _canonical(value))

    def __str__(self) -> str:
        if isinstance(self.value, tuple):  # "16:" is one segment of 16; "16" is 16 segments
            return ":".join(map(str, self.value)) + ":" * (len(self.value) == 1)
        return str(self.value)

    def count(self, channels: int, *, saturate: bool = False) -> int:
        """The number of segments that ``channels`` channels are divided into.

        Args:
            channels: the number of channels.
            saturate: whether more segments than channels become one per channel.

        Raises:
            ValueError: there are more segments than channels (unless ``saturate``), explicit
                sizes don't add up to ``channels``, or there are no channels.
        """
        if channels < 1:
            raise ValueError(f"channels (={channels}) must be at least 1")
        if isinstance(self.value, tuple):
            if sum(self.value) != channels:
                raise ValueError(
                    f"segments (={self}) add up to {sum(self.value)}, "
                    f"must add up to {channels}, the layer's channels"
                )
            return len(self.value)
        if isinstance(self.value, str):
            return -(-channels // int(self.value[2:] or 1))
        if self.value > channels and not saturate:
            raise ValueError(f"segments (={self}) must be in 1..{channels}, the layer's channels")
        return min(self.value, channels)

    def sizes(self, channels: int, *, saturate: bool = False) -> tuple[int, ...]:
        """The channels of each of the n segments; the first ``channels % n`` have one more.

        Arguments and errors are those of ``count``.
        """
        n = self.count(channels, saturate=saturate)
        return self.value if isinstance(self.value, tuple) else near_equal(channels, n)

    def saturates(self, channels: int) -> bool:
        """Whether there are more segments than ``channels`` channels."""
        return isinstance(self.value, int) and self.value > channels

    def saturated(self, channels: int) -> Segments:
        """These segments, or one per channel if they are more than ``channels``."""
        return Segments("C") if self.saturates(channels) else self


SegmentsLike: TypeAlias = "SupportsIndex | str | Sequence[SupportsIndex] | Segments"
Setting: TypeAlias = "SegmentsLike | Mapping[str, SegmentsLike] | Sequence[SegmentsLike]"


def near_equal(channels: int, n: int) -> tuple[int, ...]:
    """Divide ``channels`` into ``n`` near-equal parts, the larger ones first."""
    small, larger = divmod(channels, n)
    return (small + 1,) * larger + (small,) * (n - larger)


def _canonical(value: SegmentsLike) -> int | str | tuple[int, ...]:
    if isinstance(value, Segments):
        return value.value
    if isinstance(value, str):
        return _from_text(value.strip())
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        sizes = tuple(_positive_int(size, value) for size in value)
        if not sizes:
            raise _error(value)
        return sizes
    return _positive_int(value, value)


def _from_text(text: str) -> int | str | tuple[int, ...]:
    if _NUMBER.fullmatch(text):
        return int(text)
    if text == "C":
        return text
    if text.startswith("C/") and _NUMBER.fullmatch(text[2:]):
        width = int(text[2:])
        return f"C/{width}" if width > 1 else "C"
    sizes = text.removesuffix(":").split(":")
    if ":" in text and all(map(_NUMBER.fullmatch, sizes)):
        return tuple(map(int, sizes))
    raise _error(text)


def _positive_int(number: object, value: object) -> int:
    """Return ``number`` as an integer; an error names ``value``, which it is or belongs to."""
    try:
        integer = operator.index(number)  # type: ignore[arg-type]
    except TypeError:
        integer = 0
    if isinstance(number, bool) or not 1 <= integer <= _MAX:
        raise _error(value)
    return integer


def _error(value: object) -> ValueError:
    try:
        shown = repr(value)
    except ValueError:  # Python refuses to print numbers with thousands of digits
        shown = "a number of thousands of digits"
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return ValueError(f"segments (={shown}) must be {_ALLOWED}")


def parse_setting(value: Setting) -> Segments | dict[str, Segments] | tuple[Segments, ...]:
    """Convert a setting for a network to its canonical form.

    Args:
        value: one value (``4``, ``"C/8"``, ``(16, 8, 8)``); a mapping by flow; a list with one
            value per layer; or the text of any of these, where ``+`` joins the parts
            (``"entry=C+middle=4+exit=C"``, ``"C+C+4"``). A tuple of numbers is explicit sizes, a
            list is layer by layer.

    Raises:
        ValueError: the value is none of these.
    """
    if isinstance(value, str) and ("+" in value or "=" in value):
        return _parse_parts(value)
    if isinstance(value, Mapping):
        if not value:
            raise _error(value)
        return {str(flow): Segments(segments) for flow, segments in value.items()}
    layered = isinstance(value, list) or (
        isinstance(value, tuple) and any(isinstance(part, Segments | str) for part in value)
    )
    if layered:
        if not value:
            raise _error(value)
        return tuple(Segments(part) for part in value)  # type: ignore[union-attr]
    return Segments(value)  # type: ignore[arg-type]


def _parse_parts(text: str) -> dict[str, Segments] | tuple[Segments, ...]:
    if text.count("+") == 1 and text.endswith("+") and "=" not in text:
        return (Segments(text[:-1]),)
    parts = [part.strip() for part in text.split("+")]
    if all("=" in part for part in parts):
        flows: dict[str, Segments] = {}
        for part in parts:
            flow, _, segments = part.partition("=")
            if not flow.strip() or flow.strip() in flows:
                raise ValueError(f"segments (={text!r}) must name each flow once, as in 'entry=C'")
            flows[flow.strip()] = Segments(segments)
        return flows
    if any("=" in part for part in parts):
        raise ValueError(f"segments (={text!r}) must name a flow in every part or in none")
    return tuple(map(Segments, parts))


def format_setting(value: Setting) -> str:
    """Write a setting as text for ``parse_setting``: ``"4"``, ``"entry=C+exit=4"``, ``"C+C+4"``."""
    setting = parse_setting(value)
    if isinstance(setting, dict):
        return "+".join(f"{flow}={segments}" for flow, segments in setting.items())
    if isinstance(setting, tuple):  # "4+" is a list of one layer; "4" is every layer
        return "+".join(map(str, setting)) + "+" * (len(setting) == 1)
    return str(setting)


def parse_points(text: str) -> list[str]:
    """Split the settings of a study, as in ``"1,4,C,entry=C+middle=C/8+exit=C"``.

    Returns:
        Each setting as canonical text.

    Raises:
        ValueError: a setting is empty or malformed; the message names it.
    """
    points = text.split(",")
    if len(points) > 1 and not all(map(str.strip, points)):
        raise ValueError(f"segments (={text!r}) must have a point before and after every comma")
    return [format_setting(point) for point in points]


def layer_segments(value: Setting, flows: Sequence[str]) -> list[Segments]:
    """Assign segments to every segmented convolution of a network.

    Args:
        value: a setting, as in ``parse_setting``.
        flows: the flow of each segmented convolution, in order of depth.

    Raises:
        ValueError: a flow is unknown or missing, or a list has another length than ``flows``.
    """
    setting = parse_setting(value)
    if isinstance(setting, dict):
        known = list(dict.fromkeys(flows))
        if set(setting) != set(known):
            raise ValueError(
                f"segments (={format_setting(setting)}) must name every flow once: "
                + ", ".join(known)
            )
        return [setting[flow] for flow in flows]
    if isinstance(setting, tuple):
        if len(setting) != len(flows):
            raise ValueError(
                f"segments (={len(setting)} values) must be {len(flows)} values, one per layer"
            )
        return list(setting)
    return [setting] * len(flows)
