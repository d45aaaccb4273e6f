"""Parsing the networks of a benchmark: a name, and the settings that it is timed with."""

from __future__ import annotations

from typing import NamedTuple, cast

from spectrum.bench.arguments import LAYOUTS, PLANS, PRECISIONS, Layout, PlanName, Precision
from spectrum.segments import format_setting

__all__ = ["NetworkSpec", "parse_network_spec"]


_WORDS = {"precision": PRECISIONS, "layout": LAYOUTS, "plan": PLANS}


class NetworkSpec(NamedTuple):
    """A network with the settings that were typed for it; None for a setting that wasn't.

    Attributes:
        name: the name of a network, or ``package.module:callable``.
        segments: the setting of its segments.
        precision: of the forward pass.
        layout: the memory layout of images and weights.
        plan: the plan by which its segmented layers are executed.
    """

    name: str
    segments: str | None
    precision: Precision | None
    layout: Layout | None
    plan: PlanName | None


def parse_network_spec(text: str) -> NetworkSpec:
    """Parse a name with settings in any order, such as ``"paper@C@bfloat16@contiguous@native"``.

    Raises:
        ValueError: a word isn't a setting of the segments, a precision, a layout or a plan, or two
            words set the same.
    """
    name, *words = text.split("@")
    settings: dict[str, str] = {}
    for word in words:
        kinds = [kind for kind, allowed in _WORDS.items() if word in allowed]
        kind = kinds[0] if kinds else "segments"
        value = word if kinds else _segments(text, word)
        if kind in settings:
            raise ValueError(
                f"network (={text!r}) must name one {kind}, not {settings[kind]}, {word}"
            )
        settings[kind] = value
    return NetworkSpec(
        name,
        settings.get("segments"),
        cast("Precision | None", settings.get("precision")),
        cast("Layout | None", settings.get("layout")),
        cast("PlanName | None", settings.get("plan")),
    )


def _segments(text: str, word: str) -> str:
    try:
        return format_setting(word)
    except ValueError:
        raise ValueError(
            f"network (={text!r}) must be NAME@WORD..., each word a point of the dial, "
            f"{', '.join((*PRECISIONS, *LAYOUTS, *PLANS))}, not {word!r}"
        ) from None
