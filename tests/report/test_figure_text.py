"""Text from elsewhere is drawn as it is, whatever characters it holds."""

from __future__ import annotations

import warnings

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from spectrum.report import plot_accuracy_vs_segments, plot_heat_map
from spectrum.report.figure_style import lay_out_figure, make_figure
from spectrum.report.figure_text import show_text_as_it_is, wrap_text
from spectrum.report.search import plot_importance

marks = st.sampled_from(
    [*"$_^%\\{}&#~", "$$", "$a_{b", "\\frac{", "\x1b[31m", "\u202e", "猫", "قط", "😀"]
)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
hostile = st.lists(marks | text, min_size=1, max_size=6).map("".join)


def draw(figure: Figure) -> set[str]:
    """Draws a figure without a warning, and returns its texts, each on one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.draw_without_rendering()
    texts = (str(text.get_text()) for text in figure.findobj(Text))  # type: ignore[attr-defined]
    return {"".join(text.split()) for text in texts}


@settings(max_examples=settings().max_examples // 3)  # figures take their time
@given(name=hostile, title=hostile)
@pytest.mark.parametrize("plot", [plot_accuracy_vs_segments, plot_heat_map])
def test_hostile_names_are_drawn(plot, name: str, title: str, make_results) -> None:
    results = make_results({"1": [0.5, 0.6], "C": [0.7, 0.6]}, data=f"folder:{name}")
    other = make_results({"1": [0.5, 0.6], "C": [0.7, 0.6]}, data="digits")
    figure = plot(pd.concat([results, other], ignore_index=True)).get_figure()
    lay_out_figure(figure, title)
    assert not any(char in text for text in draw(figure) for char in "\x1b\u202e")


@pytest.mark.parametrize(
    "name", ["a$b$c", "$x$", "\\$x\\$", "{_^}", "\\frac{a", "%d%%", "# & ~", "قط", "кот"]
)
def test_names_are_drawn_as_they_are(name: str, make_results) -> None:
    results = [make_results({"1": [0.5, 0.6], "C": [0.7, 0.6]}, data=x) for x in (name, "digits")]
    results = pd.concat(results, ignore_index=True)
    plain = "".join(name.split())
    for figure in (
        plot_heat_map(results).get_figure(root=True),
        plot_importance({name: 0.5}).get_figure(root=True),
    ):
        assert plain in draw(figure)
    for figure in (plot_accuracy_vs_segments(results, label=None).get_figure(root=True),):
        lay_out_figure(figure, name)
        shown = draw(figure)
        assert {plain, f"data{plain}"} <= shown
        assert all("$" not in text or text in (plain, f"data{plain}") for text in shown)
    assert all(not text.get_parse_math() for text in figure.findobj(Text) if "$" in text.get_text())


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb\x07", "a\\nb\\x07"),
        ("\x1b[1m", "\\x1b[1m"),
        ("a\u202eb", "a\\u202eb"),
        ("\ue123\U000f1234", "\\ue123\\U000f1234"),  # of private use: no font has them
    ],
)
def test_what_cannot_be_drawn_is_escaped(name: str, shown: str, make_results) -> None:
    results = [make_results({"1": [0.5], "C": [0.7]}, data=x) for x in (name, "digits")]
    ax = plot_heat_map(pd.concat(results, ignore_index=True))
    assert shown in draw(ax.get_figure(root=True))


def test_numbers_that_matplotlib_formats_stay_mathematics() -> None:
    figure = make_figure(3, 3)
    ax = figure.subplots()
    ax.set_yscale("log")
    ax.plot([1, 2], [1, 1e6], label="$x$")
    ax.legend()
    show_text_as_it_is(figure)
    ax.set_title("$x$")  # what a user writes later is as usual
    figure.draw_without_rendering()
    assert all(label.get_parse_math() for label in [*ax.get_yticklabels(), ax.title])
    legend = ax.get_legend()
    assert legend is not None
    assert not legend.get_texts()[0].get_parse_math()


@pytest.mark.parametrize("char", ["a", "a ", "猫", "$", "/"])
def test_names_of_any_length_are_drawn(char: str, make_results) -> None:
    names = [char * 2000 + end for end in ("1", "2")]
    results = [make_results({"1": [0.5, 0.6], "C": [0.7, 0.6]}, data=name) for name in names]
    for plot in (plot_accuracy_vs_segments, plot_heat_map):
        figure = plot(pd.concat(results, ignore_index=True)).get_figure(root=True)
        assert {"1", "2"} <= {text[-1:] for text in draw(figure) if len(text) > 12}
        lay_out_figure(figure, names[0])
        draw(figure)


@pytest.mark.parametrize("width", [10, 26, 83])
@pytest.mark.parametrize("length", [1, 40, 400])
@pytest.mark.parametrize("word", ["a", "word ", "a/b/"])
def test_wrapped_text_keeps_its_ends(word: str, length: int, width: int) -> None:
    text = (word * length).strip() + "!"
    lines = wrap_text(text, width).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= 5
    assert lines[-1].endswith("!")
    assert text.startswith(lines[0].partition("...")[0])
    assert len(text) > 3 * width or "".join("".join(lines).split()) == "".join(text.split())
