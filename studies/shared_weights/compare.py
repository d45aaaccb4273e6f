"""Compares substitutes for training schedules alone, and draws ``orders.png``.

python studies/shared_weights/compare.py                      compares the scores in the CSV files
python studies/shared_weights/compare.py planted budget 16    takes those of a training anew first

Taking them anew trains a supernet for 16 epochs, unless the store has it. Then the scores of
schedules trained alone are taken anew too, if ``outputs`` has the studies of the page.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from spectrum import (
    Recipe,
    Sandwich,
    SearchConfig,
    Supernet,
    compare_orders,
    count_costs,
    load_curves,
    load_results,
)
from spectrum.executors.engines import open_engine
from spectrum.report.figure_style import COLOURS, make_figure, style_axes
from spectrum.runs.config import RunConfig
from spectrum.runs.sandwich import make_sandwich
from spectrum.search.candidates import Candidates, make_candidates
from spectrum.search.scoring import make_scorer, plan_shared
from spectrum.search.space import make_space
from spectrum.terminal import make_console

FOLDER = Path(__file__).parent
TITLES = {"planted": "planted blocks", "fashion": "Fashion-MNIST at 14x14"}
CANDIDATES = {"planted": "1,2,4,8", "fashion": "1,4,C/4,C"}
# The substitutes, as columns of the scores and as the figure names them.
NAMES = {
    "budget_16": "shared weights",
    "budget_40": "shared, 40 epochs",
    "sandwich_16": "shared, sandwich rule",
    "epoch_1": "1 epoch of 8",
    "epoch_2": "2 epochs of 8",
    "macs": "more MACs",
    "params": "more parameters",
    "width": "wider",
}


def search(name: str, rule: str, epochs: int) -> SearchConfig:
    """A search on shared weights of a setting for each layer, with the fields of a study."""
    fields: dict[str, Any] = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    del fields["seeds"]
    fields |= {"segments": CANDIDATES[name], "per": "layer"}
    fields |= {"evaluate": "shared", "shared_epochs": epochs, "shared_rule": rule}
    return SearchConfig.checked(fields)


def collect(name: str, rule: str, epochs: int) -> pd.DataFrame:
    """The scores of a data set, those of one shared training anew."""
    candidates = make_candidates(make_space(search(name, rule, epochs)))
    console = make_console(stderr=True)
    rows = collect_alone(name)
    runs = runs_for_shared(candidates, rows)
    print(f"{name}, {rule}, {epochs} epochs: {runs:.1f} runs alone cost as much")
    with open_engine(candidates.config) as engine:
        scorer = make_scorer(candidates, engine, console, lambda event: None)
    assert scorer is not None
    rows[f"{rule}_{epochs}"] = [
        scorer(candidates.point(choices_of(candidates, setting)))["shared_top1"]
        for setting in rows["segments"]
    ]
    return rows


def collect_alone(name: str) -> pd.DataFrame:
    """What each schedule reaches alone, by the studies in ``outputs`` or as it was kept."""
    kept, results = pd.read_csv(FOLDER / f"{name}.csv"), Path("outputs")
    if not (results / f"shared_{name}").exists():
        return kept
    alone = load_results(results / f"shared_{name}")
    again = load_results(results / f"shared_{name}_again").query("seed == 1")
    curves = load_curves(results / f"shared_{name}").pivot(
        index="run_id", columns="epoch", values="val_top1"
    )
    return kept.assign(
        segments=alone["segments"],
        alone=alone["val_top1"],
        again=alone["segments"].map(again.set_index("segments")["val_top1"]),
        **{f"epoch_{n}": alone["run_id"].map(curves[n]) for n in (1, 2)},
        **{cost: alone[cost] for cost in ("macs", "params", "width")},
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
    return runs_of(make_sandwich(run.shared), network, run, candidates, alone)


def steps_per_epoch(candidates: Candidates, recipe: Recipe) -> int:
    """The steps of an epoch."""
    images = len(candidates.dataset.train)
    return images // min(recipe.batch_size, images)


def runs_of(
    method: Sandwich, network: Supernet, run: RunConfig, candidates: Candidates, alone: pd.DataFrame
) -> float:
    """How many runs alone have as many multiply-adds as a shared training by a method."""
    macs, shape = 0, candidates.dataset.shape
    epochs, steps = run.recipe.epochs, steps_per_epoch(candidates, run.recipe)
    counted = range(0, epochs * steps, max(epochs * steps // 20, 1))
    for step in counted:
        for schedule, width in method.networks(network, 0, step, shape):
            macs += count_costs(network.extract(list(schedule), width), shape).macs
    in_alone = alone["macs"].mean() * candidates.epochs
    return macs / len(counted) * epochs / in_alone  # both have as many steps per epoch


def main() -> None:
    """Print how well each substitute orders the schedules, and draw it."""
    if sys.argv[1:]:
        name, rule, epochs = sys.argv[1:]
        collect(name, rule, int(epochs)).to_csv(FOLDER / f"{name}.csv", index=False)
    figure = make_figure(9.6, 6.4)
    panels = figure.subplots(2, 2, height_ratios=[3, 2])
    for i, (name, title) in enumerate(TITLES.items()):
        rows = pd.read_csv(FOLDER / f"{name}.csv")
        known = {column: text for column, text in NAMES.items() if column in rows}
        orders = compare_orders(rows["alone"], {text: rows[c] for c, text in known.items()})
        twice = rows.dropna()
        ceiling = compare_orders(twice["alone"], {"again": twice["again"]}).iloc[0]
        print(f"{title}: {len(rows)} schedules, accuracy alone {describe(rows['alone'])}")
        for column in ("budget_16", "sandwich_16"):
            print(f"with {known[column]}: {describe(rows[column])}")
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
    ax.plot(rows["alone"], rows["budget_16"], "o", markersize=4, alpha=0.7, color=COLOURS[0])
    low, high = min(rows[["alone", "budget_16"]].min()), max(rows[["alone", "budget_16"]].max())
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
    ax.set(xlabel="Kendall's tau, 95% interval", xlim=(-0.55, 1))
    style_axes(ax)


if __name__ == "__main__":
    main()
