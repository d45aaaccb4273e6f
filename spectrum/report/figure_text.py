"""Text in figures as it is: nothing in it is read as mathematics, and no script is left out."""

from __future__ import annotations

import textwrap
from functools import cache

from matplotlib import font_manager, rcParams
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, ScalarFormatter

from spectrum.errors import printable


def show_text_as_it_is(artist: Artist) -> None:
    """Makes all text of a figure or of axes plain, in fonts that have its characters.

    Names of data, networks and classes come from elsewhere and may hold ``$`` or any script.
    Matplotlib would read what stands between two ``$`` as mathematics, and fail on most of it.
    Characters that no installed font has, and those that control a terminal, are escaped.

    Args:
        artist: the figure or the axes, on which everything is drawn already.
    """
    numbers: set[Text] = set()
    for axes in artist.findobj(Axes):
        for axis in (axes.xaxis, axes.yaxis):
            labels = axis.get_ticklabels()
            if isinstance(axis.get_major_formatter(), ScalarFormatter | LogFormatter):
                numbers |= {*labels, *axis.get_ticklabels(minor=True)}  # may be powers of ten
                continue
            shown = [label.get_text() for label in labels]
            drawable = [_as_drawable(text) for text in shown]
            if drawable != shown:  # the texts of ticks are set anew when they are drawn
                axis.set_ticks(axis.get_majorticklocs(), drawable)
    for text in artist.findobj(Text):
        if text in numbers:
            continue
        content = _as_drawable(text.get_text())
        text.set_text(content)
        if "$" in content:
            text.set_parse_math(False)
        if families := sorted({family for family in map(_family_for, content) if family}):
            text.set_fontfamily([*rcParams["font.family"], *families])


def wrap_text(text: str, width: int, lines: int = 4) -> str:
    """Text from elsewhere, on a few lines. The middle of a longer text is left out.

    Args:
        text: the text.
        width: the characters of a line.
        lines: the most lines.
    """
    shown, most = _as_drawable(text), width * lines - width // 2  # lines may end early
    if len(shown) > most:
        shown = f"{shown[: most // 3]}...{shown[len(shown) + most // 3 + 3 - most :]}"
    return textwrap.fill(shown, width)


def _as_drawable(text: str) -> str:
    lines = (printable(line) for line in text.split("\n"))
    return "\n".join("".join(map(_escape_without_font, line)) for line in lines)


def _escape_without_font(char: str) -> str:
    return char if _family_for(char) is not None else char.encode("unicode_escape").decode()


@cache
def _family_for(char: str) -> str | None:
    """A family of fonts that has a character: "" for the usual one, None if none has it."""
    if char == "\n" or _has(font_manager.findfont(font_manager.FontProperties()), char):
        return ""
    fonts = sorted(
        (font.name, font.fname) for font in font_manager.fontManager.ttflist if _is_usual(font)
    )
    return next((name for name, path in fonts if _has(path, char)), None)


def _is_usual(font: font_manager.FontEntry) -> bool:
    """Whether a font is upright and of normal weight, and has the characters that it claims."""
    # The font of last resort has one sign for all characters of a script.
    is_honest = not font.name.startswith(("Last Resort", "STIXNonUnicode"))
    return is_honest and font.style == "normal" and font.weight == 400


def _has(path: str, char: str) -> bool:
    try:
        return bool(font_manager.get_font(path).get_char_index(ord(char)))
    except (OSError, RuntimeError):  # the font is gone, or is one of pictures
        return False
