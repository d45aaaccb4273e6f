"""The networks of a benchmark as they are typed: a name, and what it is timed with."""

from __future__ import annotations

from typing import NamedTuple, cast

from spectrum.bench.arguments import LAYOUTS, PLANS, PRECISIONS, Layout, PlanName, Precision
from spectrum.segments import format_setting

__all__ = ["Entry", "parse_entry"]


_WORDS = {"precision": PRECISIONS, "layout": LAYOUTS, "plan": PLANS}


class Entry(NamedTuple):
    """A network and what it is timed with; None where the name doesn't say.

    Attributes:
        name: of the network, or ``package.module:callable``.
        segments: a point of the dial.
        precision: of the forward pass.
        layout: of images and weights in memory.
        plan: by which its layers are executed.
    """

    name: str
    segments: str | None
    precision: Precision | None
    layout: Layout | None
    plan: PlanName | None


def parse_entry(text: str) -> Entry:
    """A name and the words after it, ``"paper@C@bfloat16@contiguous@native"``, in any order.

    Raises:
        ValueError: a word is no point of the dial, precision, layout or plan, or two are of a kind.
    """
    name, *words = text.split("@")
    found: dict[str, str] = {}
    for word in words:
        kinds = [kind for kind, allowed in _WORDS.items() if word in allowed]
        kind = kinds[0] if kinds else "segments"
        value = word if kinds else _point(text, word)
        if kind in found:
            raise ValueError(f"network (={text!r}) must name one {kind}, not {found[kind]}, {word}")
        found[kind] = value
    return Entry(
        name,
        found.get("segments"),
        cast("Precision | None", found.get("precision")),
        cast("Layout | None", found.get("layout")),
        cast("PlanName | None", found.get("plan")),
    )


def _point(text: str, word: str) -> str:
    try:
        return format_setting(word)
    except ValueError:
        raise ValueError(
            f"network (={text!r}) must be NAME@WORD..., each word a point of the dial, "
            f"{', '.join((*PRECISIONS, *LAYOUTS, *PLANS))}, not {word!r}"
        ) from None
