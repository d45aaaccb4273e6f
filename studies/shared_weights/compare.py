"""Compares substitutes for training schedules alone, and draws ``orders.png``.

python studies/shared_weights/compare.py

It reads the scores of ``planted.csv`` and ``fashion.csv``. Where ``outputs`` has the studies of the
page, the scores are taken anew from them and from the shared weights, which are trained unless the
store has them.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from spectrum import (
    SearchConfig,
    Supernet,
    compare_orders,
    count_costs,
    load_curves,
    load_results,
)
from spectrum.executors.engines import open_engine
from spectrum.report.figure_style import COLOURS, make_figure, style_axes
from spectrum.runs.sandwich import make_sandwich
from spectrum.search.candidates import Candidates, make_candidates
from spectrum.search.scoring import make_scorer, plan_shared
from spectrum.search.space import make_space
from spectrum.terminal import make_console

FOLDER = Path(__file__).parent
TITLES = {"planted": "planted blocks", "fashion": "Fashion-MNIST at 14x14"}
CANDIDATES = {"planted": "1,2,4,8", "fashion": "1,4,C/4,C"}
SHARED_EPOCHS = 16
# The substitutes, as columns of the scores and as the figure names them.
NAMES = {
    "shared": "shared weights",
    "epoch_1": "1 epoch of 8",
    "epoch_2": "2 epochs of 8",
    "macs": "more MACs",
    "params": "more parameters",
    "width": "wider",
}


def search(name: str) -> SearchConfig:
    """A search on shared weights of a setting for each layer, with the fields of a study."""
    fields: dict[str, Any] = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    del fields["seeds"]
    fields |= {"segments": CANDIDATES[name], "per": "layer"}
    return SearchConfig.checked({**fields, "evaluate": "shared", "shared_epochs": SHARED_EPOCHS})


def collect(name: str) -> pd.DataFrame:
    """What each schedule of a study reaches alone, and what the substitutes say of it."""
    config, results = search(name), Path("outputs")
    alone = load_results(results / f"shared_{name}")
    again = load_results(results / f"shared_{name}_again").query("seed == 1")
    curves = load_curves(results / f"shared_{name}").pivot(
        index="run_id", columns="epoch", values="val_top1"
    )
    candidates, console = make_candidates(make_space(config)), make_console(stderr=True)
    with open_engine(config) as engine:
        scorer = make_scorer(candidates, engine, console, lambda event: None)
    assert scorer is not None
    print(f"{TITLES[name]}: {runs_for_shared(candidates, alone):.1f} runs alone cost as much")
    shared = []
    for setting in alone["segments"]:
        point = candidates.point(choices_of(candidates, setting))
        shared.append(scorer(point)["shared_top1"])
    return pd.DataFrame(
        {
            "segments": alone["segments"],
            "alone": alone["val_top1"],
            "again": alone["segments"].map(again.set_index("segments")["val_top1"]),
            "shared": shared,
            **{f"epoch_{n}": alone["run_id"].map(curves[n]) for n in (1, 2)},
            **{cost: alone[cost] for cost in ("macs", "params", "width")},
        }
    )


def choices_of(candidates: Candidates, setting: str) -> dict[str, str]:
    """The point of a space with a setting, which names each layer or all at once."""
    layers = setting.split("+")
    layers *= len(candidates.space.choices) // len(layers)
    return dict(zip(candidates.space.choices, layers, strict=True))


def runs_for_shared(candidates: Candidates, alone: pd.DataFrame) -> float:
    """How many runs alone have as many multiply-adds as the shared training."""
    _, run = plan_shared(candidates)
    assert run.shared is not None
    network = Supernet(run.network, run.shared.segments, run.shared.widths)
    method, steps, macs = make_sandwich(run.shared), 20, 0
    shape = candidates.dataset.shape
    for step in range(steps):
        for schedule, width in method.networks(network, run.seed, step, shape):
            macs += count_costs(network.extract(list(schedule), width), shape).macs
    in_alone = alone["macs"].mean() * int(alone["epochs"].iloc[0])
    return macs / steps * run.recipe.epochs / in_alone


def main() -> None:
    """Print how well each substitute orders the schedules, and draw it."""
    figure = make_figure(9.6, 6.4)
    panels = figure.subplots(2, 2, height_ratios=[3, 2])
    for i, (name, title) in enumerate(TITLES.items()):
        if (Path("outputs") / f"shared_{name}").exists():
            collect(name).to_csv(FOLDER / f"{name}.csv", index=False)
        rows = pd.read_csv(FOLDER / f"{name}.csv")
        orders = compare_orders(rows["alone"], {text: rows[c] for c, text in NAMES.items()})
        twice = rows.dropna()
        ceiling = compare_orders(twice["alone"], {"again": twice["again"]}).iloc[0]
        print(f"{title}: {len(rows)} schedules, accuracy alone {describe(rows['alone'])}")
        print(f"with shared weights {describe(rows['shared'])}")
        print(orders.round(2).to_string(index=False, na_rep="-"))
        print(
            f"another training orders {len(twice)} of them with tau {ceiling['tau']:.2f} "
            f"({ceiling['tau_low']:.2f} to {ceiling['tau_high']:.2f})\n"
        )
        draw_scores(panels[0, i], rows, title)
        draw_orders(panels[1, i], orders, ceiling["tau"])
    figure.savefig(FOLDER / "orders.png", dpi=150)


def describe(accuracies: pd.Series) -> str:
    """The range and the mean of accuracies."""
    return f"{accuracies.min():.3f} to {accuracies.max():.3f}, mean {accuracies.mean():.3f}"


def draw_scores(ax: Axes, rows: pd.DataFrame, title: str) -> None:
    """Draws the accuracy with shared weights against that of training alone."""
    ax.plot(rows["alone"], rows["shared"], "o", markersize=4, alpha=0.7, color=COLOURS[0])
    low, high = min(rows[["alone", "shared"]].min()), max(rows[["alone", "shared"]].max())
    ax.plot([low, high], [low, high], color="0.6", linewidth=1, zorder=0)
    ax.set(title=title, xlabel="validation accuracy, trained alone")
    ax.set_ylabel("with shared weights")
    style_axes(ax)


def draw_orders(ax: Axes, orders: pd.DataFrame, ceiling: float) -> None:
    """Draws the tau of each substitute with its interval, and that of another training."""
    for place, row in enumerate(orders.to_dict("records")):
        color = COLOURS[0] if place == 0 else "0.4"
        ax.plot([row["tau_low"], row["tau_high"]], [place, place], color=color, linewidth=2)
        ax.plot(row["tau"], place, "o", color=color)
    ax.axvline(ceiling, color=COLOURS[1], linestyle="--")
    ax.set_title("dashed: another training", fontsize="medium", color=COLOURS[1])
    ax.axvline(0, color="0.8", linewidth=1, zorder=0)
    ax.set_yticks(range(len(orders)), orders["prediction"])
    ax.invert_yaxis()
    ax.set(xlabel="Kendall's tau with training alone, 95% interval", xlim=(-0.55, 1))
    style_axes(ax)


if __name__ == "__main__":
    main()
