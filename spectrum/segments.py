"""The dial: how many channel-space segments a spatial convolution is divided into.

A setting is one value for a whole network, a mapping by flow, or a sequence with one value a
layer. This module knows text and numbers only; it imports no torch.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import SupportsIndex, TypeAlias

__all__ = [
    "Segments",
    "SegmentsLike",
    "Setting",
    "format_setting",
    "layer_segments",
    "parse_points",
    "parse_setting",
]

_ALLOWED = "a whole number from 1, 'C', 'C/n', or sizes as in (16, 8, 8) or '16:8:8'"
_NUMBER = re.compile(r"0*[1-9][0-9]{0,8}")
_MOST = 999_999_999  # more than any layer has channels, and what nine digits hold


@dataclass(frozen=True, init=False)
class Segments:
    """A number of channel-space segments, before or without knowing the number of channels.

    Args:
        value: ``4`` or ``"4"``, four segments; ``"C"``, one a channel; ``"C/8"``, ceil(C/8)
            segments, so about eight channels each; ``(16, 8, 8)`` or ``"16:8:8"``, explicit sizes.

    Raises:
        ValueError: ``value`` is none of these; the message names it and what is allowed.
    """

    value: int | str | tuple[int, ...]

    def __init__(self, value: SegmentsLike) -> None:
        object.__setattr__(self, "value", _canonical(value))

    def __str__(self) -> str:
        if isinstance(self.value, tuple):  # "16:" is one segment of 16, "16" would be 16 segments
            return ":".join(map(str, self.value)) + ":" * (len(self.value) == 1)
        return str(self.value)

    def count(self, channels: int, *, saturate: bool = False) -> int:
        """The number of segments of ``channels`` channels.

        Args:
            channels: how many channels are divided.
            saturate: where there are more segments than channels, give one a channel.

        Raises:
            ValueError: more segments than channels (unless ``saturate``), explicit sizes that
                don't add up to ``channels``, or no channels.
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
        """The channels of each segment, near-equal: the first ``channels % n`` are one wider.

        Arguments and errors are those of ``count``.
        """
        n = self.count(channels, saturate=saturate)
        return self.value if isinstance(self.value, tuple) else near_equal(channels, n)

    def saturates(self, channels: int) -> bool:
        """Whether there are more segments than ``channels`` channels."""
        return isinstance(self.value, int) and self.value > channels

    def saturated(self, channels: int) -> Segments:
        """The same point, or one segment a channel where there are more than ``channels``."""
        return Segments("C") if self.saturates(channels) else self


SegmentsLike: TypeAlias = "SupportsIndex | str | Sequence[SupportsIndex] | Segments"
Setting: TypeAlias = "SegmentsLike | Mapping[str, SegmentsLike] | Sequence[SegmentsLike]"


def near_equal(channels: int, n: int) -> tuple[int, ...]:
    """``channels`` in ``n`` near-equal parts, the wider ones first."""
    small, wider = divmod(channels, n)
    return (small + 1,) * wider + (small,) * (n - wider)


def _canonical(value: SegmentsLike) -> int | str | tuple[int, ...]:
    if isinstance(value, Segments):
        return value.value
    if isinstance(value, str):
        return _from_text(value.strip())
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        sizes = tuple(_whole(size, value) for size in value)
        if not sizes:
            raise _refused(value)
        return sizes
    return _whole(value, value)


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
    raise _refused(text)


def _whole(number: object, value: object) -> int:
    try:
        whole = operator.index(number)  # type: ignore[arg-type]
    except TypeError:
        whole = 0
    if isinstance(number, bool) or not 1 <= whole <= _MOST:
        raise _refused(value)
    return whole


def _refused(value: object) -> ValueError:
    try:
        shown = repr(value)
    except ValueError:  # Python won't write out a number of thousands of digits
        shown = "a number of thousands of digits"
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return ValueError(f"segments (={shown}) must be {_ALLOWED}")


def parse_setting(value: Setting) -> Segments | dict[str, Segments] | tuple[Segments, ...]:
    """One setting of the dial for a network, in its canonical form.

    Args:
        value: one value (``4``, ``"C/8"``, ``(16, 8, 8)``); a mapping by flow; a list with one
            value a layer; or the text of any of these, where ``+`` joins the parts
            (``"entry=C+middle=4+exit=C"``, ``"C+C+4"``). A tuple of numbers is explicit sizes, a
            list is layer by layer.

    Raises:
        ValueError: the value is none of these.
    """
    if isinstance(value, str) and ("+" in value or "=" in value):
        return _parse_parts(value)
    if isinstance(value, Mapping):
        if not value:
            raise _refused(value)
        return {str(flow): Segments(segments) for flow, segments in value.items()}
    layered = isinstance(value, list) or (
        isinstance(value, tuple) and any(isinstance(part, Segments | str) for part in value)
    )
    if layered:
        if not value:
            raise _refused(value)
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
    """The text that ``parse_setting`` reads back: ``"4"``, ``"entry=C+middle=4"``, ``"C+C+4"``."""
    setting = parse_setting(value)
    if isinstance(setting, dict):
        return "+".join(f"{flow}={segments}" for flow, segments in setting.items())
    if isinstance(setting, tuple):  # "4+" is a list of one layer, "4" would be every layer
        return "+".join(map(str, setting)) + "+" * (len(setting) == 1)
    return str(setting)


def parse_points(text: str) -> list[str]:
    """The points of a study, ``"1,4,C,entry=C+middle=C/8+exit=C"``, each in canonical text.

    Raises:
        ValueError: a point is empty or malformed; the message names it.
    """
    points = text.split(",")
    if len(points) > 1 and not all(map(str.strip, points)):
        raise ValueError(f"segments (={text!r}) must have a point before and after every comma")
    return [format_setting(point) for point in points]


def layer_segments(value: Setting, flows: Sequence[str]) -> list[Segments]:
    """The segments of every layer of a network.

    Args:
        value: a setting, as ``parse_setting`` takes it.
        flows: the flow of each dialled layer, in order of depth.

    Raises:
        ValueError: a flow is unknown or missing, or the list has another length than ``flows``.
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
                f"segments (={len(setting)} values) must be {len(flows)} values, one a layer"
            )
        return list(setting)
    return [setting] * len(flows)
