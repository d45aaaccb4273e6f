"""Draws ``fashion_budgets.png``: accuracy against segment width at each budget, and the best.

python studies/plot_budgets.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from spectrum import compare_points
from spectrum.analysis.labels import format_count
from spectrum.report.figure_style import (
    COLOURS,
    draw_intervals,
    make_figure,
    style_axes,
)

STUDIES = Path(__file__).parent
BUDGETS = ("small", "medium", "large")
DENSE = 512  # where the axis shows one segment, which has all channels of a layer
SHARE = 0.95  # of the probability to be best
# MACs in millions and channels of a segment of RegNetX (Radosavovic et al., arXiv:2003.13678).
REGNET = {
    200: 8,
    400: 16,
    600: 24,
    800: 16,
    1600: 24,
    3200: 48,
    4000: 40,
    6400: 56,
    8000: 120,
    12000: 112,
    16000: 128,
    32000: 168,
}


def channels(segments: str) -> int:
    """The channels of a segment: C has 1, C/8 has 8."""
    return DENSE if segments == "1" else int(segments.removeprefix("C").removeprefix("/") or 1)


def likely_best(points: pd.DataFrame) -> pd.DataFrame:
    """The most probable points that together have the best one with a probability of 95%."""
    ranked = points.sort_values("p_best", ascending=False)
    return ranked[ranked["p_best"].cumsum().shift(fill_value=0) < SHARE]


def draw_accuracies(ax: Axes, studies: list[pd.DataFrame]) -> None:
    """Draws a line for each budget; a star marks its highest mean."""
    for i, points in enumerate(studies):
        mean, low, high = (100 * points[name] for name in ("test_top1", "test_low", "test_high"))
        label = f"{format_count(points['params'].mean())} parameters"
        x = [width * 1.04 ** (i - 1) for width in points["channels"]]
        draw_intervals(ax, x, mean, low, high, label=label, index=i, dashes="-")
        best = int(mean.argmax())
        ax.plot(x[best], mean.iloc[best], marker="*", markersize=15, color=COLOURS[i], zorder=4)
    ax.set_ylabel("test accuracy, %, 95% interval")
    set_width_axis(ax.xaxis, ax.set_xscale, DENSE)
    ax.set_xlabel("channels of a segment")
    ax.set_title("accuracy; a star is the highest mean", fontsize="small", loc="left")
    style_axes(ax)
    put_legend_below(ax)


def draw_best_widths(ax: Axes, studies: list[pd.DataFrame]) -> None:
    """Draws the best width against MACs, beside those of RegNet."""
    macs = pd.Series([1e6 * m for m in REGNET])
    ax.plot(macs, list(REGNET.values()), "s", color="0.5", label="RegNetX on ImageNet")
    for i, points in enumerate(studies):
        best = points.loc[points["test_top1"].idxmax()]
        likely = likely_best(points)["channels"]
        reach = [[best["channels"] - likely.min()], [likely.max() - best["channels"]]]
        label = "" if i else "highest mean; the bar has the best with 95%"
        ax.errorbar(
            best["macs"],
            best["channels"],
            yerr=[[max(0, *below)] for below in reach],
            marker="*",
            markersize=15,
            capsize=4,
            color=COLOURS[i],
            label=label or None,
        )
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(numticks=12))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value, digits=4)))
    ax.set_xlabel("multiply-adds for one image")
    set_width_axis(ax.yaxis, ax.set_yscale, DENSE)
    ax.set_title("best channels of a segment", fontsize="small", loc="left")
    style_axes(ax)
    put_legend_below(ax)


def set_width_axis(axis: Axis, set_scale: Callable[..., None], dense: int) -> None:
    """Gives an axis of widths a logarithmic scale whose last tick is one segment."""
    ticks = [1, 2, 4, 8, 16, 32, 64, 128, dense]
    set_scale("log", base=2)
    axis.set_ticks(ticks, [*map(str, ticks[:-1]), "dense"])
    axis.set_minor_locator(NullLocator())


def put_legend_below(ax: Axes) -> None:
    """Moves the legend below the axes, where it hides nothing."""
    ax.legend(fontsize="small", frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16))


def main() -> None:
    """Draw the figure."""
    folders = [STUDIES / f"fashion_budget_{budget}" for budget in BUDGETS]
    studies = [compare_points(folder) for folder in folders if folder.is_dir()]
    studies = [points.assign(channels=points["segments"].map(channels)) for points in studies]
    figure = make_figure(9.6, 4.6)
    left, right = figure.subplots(1, 2)
    draw_accuracies(left, studies)
    draw_best_widths(right, studies)
    figure.savefig(STUDIES / "fashion_budgets.png")


if __name__ == "__main__":
    main()
