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

from spectrum.errors import FieldError, counted

UNCONVERTED = "-"
"""Stands for the segments and the order of a user's model that isn't converted."""

_NUMBER = re.compile(r"0{0,9}[1-9][0-9]{0,8}")
_MAX_LAYERS = 10_000
_MAX_POINTS = 10_000
_MAX = 999_999_999  # the largest number that _NUMBER matches; no layer has as many channels
_ALLOWED = (
    f"must be a whole number from 1 to {_MAX}, 'C', 'C/n', or sizes as text, such as '16:8:8'"
)


@dataclass(frozen=True, init=False)
class Segments:
    """A number of channel-space segments, which may depend on the number of channels C.

    Args:
        value: ``4`` or ``"4"`` is four segments; ``"C"`` is one per channel; ``"C/8"`` is
            ceil(C/8), about eight channels each; ``"16:8:8"`` is explicit sizes.

    Raises:
        FieldError: ``value`` is none of these.
    """

    value: int | str | tuple[int, ...]

    def __init__(self, value: SegmentsLike) -> None:
        object.__setattr__(self, "value", _canonical(value))

    @classmethod
    def from_sizes(cls, sizes: Sequence[int]) -> Segments:
        """The segments of these sizes: a number if they are near-equal, else explicit sizes."""
        near_equal = cls(len(sizes))
        if near_equal.sizes(sum(sizes)) == tuple(sizes):
            return near_equal
        return cls(":".join(map(str, sizes)))

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
            FieldError: there are more segments than channels (unless ``saturate``), explicit
                sizes don't add up to ``channels``, or there are no channels.
        """
        if channels < 1:
            raise FieldError("channels", channels, "must be at least 1")
        if isinstance(self.value, tuple):
            total = sum(self.value)
            if total != channels:
                raise FieldError(
                    "segments",
                    str(self),
                    f"add up to {total}, must add up to {channels}, the layer's channels",
                )
            return len(self.value)
        if isinstance(self.value, str):
            return -(-channels // int(self.value[2:] or 1))
        if self.value > channels and not saturate:
            raise FieldError(
                "segments", self.value, f"must be in 1..{channels}, the layer's channels"
            )
        return min(self.value, channels)

    def sizes(self, channels: int, *, saturate: bool = False) -> tuple[int, ...]:
        """The channels of each of the n segments; the first ``channels % n`` have one more.

        Arguments and errors are those of ``count``.
        """
        n = self.count(channels, saturate=saturate)
        if isinstance(self.value, tuple):
            return self.value
        small, larger = divmod(channels, n)
        return (small + 1,) * larger + (small,) * (n - larger)

    def saturated(self, channels: int) -> Segments:
        """These segments, or one per channel if they are more than ``channels``."""
        is_more = isinstance(self.value, int) and self.value > channels
        return Segments("C") if is_more else self


SegmentsLike: TypeAlias = "SupportsIndex | str | Segments"
Setting: TypeAlias = "SegmentsLike | Mapping[str, SegmentsLike] | Sequence[SegmentsLike]"


def _canonical(value: SegmentsLike) -> int | str | tuple[int, ...]:
    if isinstance(value, Segments):
        return value.value
    if isinstance(value, str):
        return _from_text(value.strip())
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if isinstance(value, bool) or not 1 <= number <= _MAX:
        raise FieldError("segments", value, _ALLOWED)
    return number


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
    raise FieldError("segments", text, _ALLOWED)


def parse_setting(value: Setting) -> Segments | dict[str, Segments] | tuple[Segments, ...]:
    """Convert a setting for a network to its canonical form.

    Args:
        value: one value (``4``, ``"C/8"``, ``"16:8:8"``); a mapping by flow; a list or tuple with
            one value per layer; or the text of any of these, where ``+`` joins the parts
            (``"entry=C+middle=4+exit=C"``, ``"C+C+4"``).

    Raises:
        FieldError: the value is none of these.
    """
    parts = _split(value) if isinstance(value, str) else value
    if not isinstance(parts, Mapping | list | tuple):
        return Segments(parts)  # type: ignore[arg-type]
    if not parts:
        raise FieldError("segments", value, _ALLOWED)
    if len(parts) > _MAX_LAYERS:
        raise FieldError("segments", f"{len(parts)} values", f"must be at most {_MAX_LAYERS}")
    if isinstance(parts, Mapping):
        return {str(flow): Segments(segments) for flow, segments in parts.items()}
    return tuple(map(Segments, parts))


def _split(text: str) -> str | dict[str, str] | list[str]:
    """The parts of a setting that is written as text; "4+" is a list of one layer."""
    parts = text.split("+")
    if "=" not in text:
        return text.removesuffix("+").split("+") if len(parts) > 1 else text
    flows: dict[str, str] = {}
    for part in parts:
        flow, equals, segments = part.partition("=")
        flow = flow.strip()
        if not equals or not flow or flow in flows:
            raise FieldError(
                "segments",
                text,
                "must name a flow in every part, each flow once, as in 'entry=C+exit=4'",
            )
        flows[flow] = segments
    return flows


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
        FieldError: a setting is empty or malformed.
    """
    points = text.split(",")
    if len(points) > 1 and not all(map(str.strip, points)):
        raise FieldError("segments", text, "must have a point before and after every comma")
    if len(points) > _MAX_POINTS:
        raise FieldError("segments", f"{len(points)} points", f"must be at most {_MAX_POINTS}")
    return [format_setting(point) for point in points]


def layer_segments(value: Setting, flows: Sequence[str]) -> list[Segments]:
    """Assign segments to every segmented convolution of a network.

    Args:
        value: a setting, as in ``parse_setting``.
        flows: the flow of each segmented convolution, in order of depth.

    Raises:
        FieldError: a flow is unknown or missing, or a list has another length than ``flows``.
    """
    setting = parse_setting(value)
    if isinstance(setting, Segments):
        return [setting] * len(flows)
    if isinstance(setting, dict):
        known = list(dict.fromkeys(flows))
        if set(setting) != set(known):
            raise FieldError(
                "segments",
                format_setting(setting),
                f"must name every flow once: {', '.join(known)}",
            )
        return [setting[flow] for flow in flows]
    if len(setting) != len(flows):
        raise FieldError(
            "segments",
            setting,
            f"must be {counted(len(flows), 'value')}, one per layer, not {len(setting)}",
        )
    return list(setting)
