"""What the literature offers for a better order of schedules, each tried alone.

python studies/shared_weights/remedies.py                trains what remedies.csv lacks, and prints
python studies/shared_weights/remedies.py planted 0      trains the remedies on one task and seed

Each remedy is one shared training. Its row has Kendall's tau between the accuracies of schedules
with shared weights and alone, and the mean accuracy with shared weights. Alone, schedules of
planted blocks and of Fashion-MNIST were trained with one seed, and those of noisy digits with
three, of which the mean counts.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
from compare import FOLDER, choices_of, search
from front import TABLE, candidates_with
from scipy.stats import kendalltau
from torch import Tensor, nn
from torch.func import functional_call

from spectrum import Sandwich, Supernet, fit, score
from spectrum.layers.shared import SharedConv
from spectrum.networks.replace import assign_segments
from spectrum.runs.config import RunConfig
from spectrum.search.candidates import Candidates, make_candidates
from spectrum.search.scoring import plan_shared, spread
from spectrum.search.space import make_space
from spectrum.segments import Segments, Setting
from spectrum.training.seeding import seeded

ROWS = FOLDER / "remedies.csv"
FIELDS = ("task", "remedy", "seed", "tau", "mean_accuracy")
TASKS = ("planted", "fashion", "digits")
EPOCHS = 4
SEEDS = 2
Drawn = list[tuple[tuple[Segments, ...], float]]


class OwnKernels(Supernet):
    """Each candidate of a layer has a kernel of its own; the rest is shared."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        kernels = {}
        for name in self._members.names:
            layer = self._layer(name)
            fresh = [SharedConv(self._members.wide_layers(name)).kernel for _ in self.segments[1:]]
            kernels[name.replace(".", "/")] = nn.ParameterList([layer.kernel, *fresh])
        self.kernels = nn.ModuleDict(kernels)

    def set(self, schedule: Setting, width: float | None = None) -> None:
        """Choose the network, with the kernels or the maps of its candidates."""
        super().set(schedule, width)
        if hasattr(self, "kernels"):
            for name, value in assign_segments(self._members.names, schedule).items():
                own: Any = self.kernels[name.replace(".", "/")]
                self._layer(name).kernel = own[self.segments.index(value)]


class OwnNormalisation(Supernet):
    """Each candidate has an affine map of its own in the normalisation that follows its layer.

    Yu et al., Slimmable Neural Networks (arXiv:1812.08928), have one per width. Statistics are
    computed for each schedule anyway.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        modules = list(self.network.named_modules())
        places = {name: i for i, (name, _) in enumerate(modules)}
        self._follower, own = {}, {}
        for name in self._members.names:
            after = modules[places[name] :]
            follower, norm = next((n, m) for n, m in after if isinstance(m, nn.BatchNorm2d))
            self._follower[name] = follower
            own[name.replace(".", "/")] = nn.ParameterList(
                nn.Parameter(tensor.detach().clone())
                for _ in self.segments
                for tensor in (norm.weight, norm.bias)
            )
        self.own = nn.ModuleDict(own)

    def set(self, schedule: Setting, width: float | None = None) -> None:
        """Choose the network, with the kernels or the maps of its candidates."""
        super().set(schedule, width)
        chosen = assign_segments(self._members.names, schedule)
        self._chosen = {name: self.segments.index(value) for name, value in chosen.items()}

    def forward(self, x: Tensor) -> Any:
        """As in ``Supernet``."""
        tensors = self._sliced(self._slices)
        for name, follower in self._follower.items():
            own: Any = self.own[name.replace(".", "/")]
            for i, kind in enumerate(("weight", "bias")):
                key, tensor = f"{follower}.{kind}", own[2 * self._chosen[name] + i]
                tensors[key] = self._slices[key].of(tensor) if key in self._slices else tensor
        return functional_call(self.network, tensors, (x,), tie_weights=False)


@dataclass(frozen=True)
class RandomAlone(Sandwich):
    """The random networks of a step without the densest and the sparsest (arXiv:1907.01845)."""

    def networks(self, *args: Any) -> Drawn:
        """As in ``Sandwich``."""
        return super().networks(*args)[2:]


@dataclass(frozen=True)
class DenseFirst(Sandwich):
    """The densest network alone for the first steps (as in BigNAS and Once-for-All)."""

    steps: int = 0

    def networks(self, network: Supernet, seed: int, step: int, shape: Any) -> Drawn:
        """As in ``Sandwich``."""
        drawn = super().networks(network, seed, step, shape)
        return drawn[:1] if step < self.steps else drawn


@dataclass(frozen=True)
class Progressive(Sandwich):
    """Candidates enter one after another, the densest first (Once-for-All, arXiv:1908.09791)."""

    steps: int = 0

    def networks(self, network: Supernet, seed: int, step: int, shape: Any) -> Drawn:
        """As in ``Sandwich``."""
        drawn, known = super().networks(network, seed, step, shape), network.segments
        if step >= self.steps:
            return drawn
        entered = 1 + step * len(known) // self.steps
        return [
            (tuple(known[known.index(value) % entered] for value in schedule), width)
            for schedule, width in drawn
        ]


class Task(NamedTuple):
    """Schedules whose accuracies alone are known."""

    candidates: Candidates
    run: RunConfig
    points: list[dict[str, str]]
    alone: pd.Series


def load_task(name: str) -> Task:
    """The schedules of a task, with a shared training of ``EPOCHS`` epochs."""
    if name == "digits":
        candidates = candidates_with(EPOCHS)
        by_text = {candidates.space.segments(p): p for p in candidates.space.all_points()}
        alone = pd.read_csv(TABLE).groupby("segments")["test_top1"].mean()
        points = [by_text[text] for text in alone.index]
    else:
        config = search(name).model_copy(update={"shared_epochs": EPOCHS})
        candidates = make_candidates(make_space(config))
        alone = pd.read_csv(FOLDER / f"{name}.csv").set_index("segments")["alone"]
        points = [choices_of(candidates, text) for text in alone.index]
    _, run = plan_shared(candidates)
    return Task(candidates, run, points, alone)


def remedies(task: Task) -> dict[str, tuple[Sandwich, Callable[..., Supernet], int]]:
    """Each remedy by name: the method, the supernet, and the number of widths."""
    config = task.candidates.config
    at_budget = Sandwich(4, False, int(task.candidates.solver.budget or 0), config.match)
    images, recipe = len(task.candidates.dataset.train), task.run.recipe
    steps = images // min(recipe.batch_size, images) * recipe.epochs
    return {
        "sandwich rule and distillation": (Sandwich(2), Supernet, 3),
        "labels instead of distillation": (Sandwich(2, distill=False), Supernet, 3),
        "two widths": (Sandwich(2, distill=False), Supernet, 2),
        "densest first": (DenseFirst(2, distill=False, steps=steps // 4), Supernet, 3),
        "progressive": (Progressive(2, distill=False, steps=steps // 2), Supernet, 3),
        "own kernels": (Sandwich(2, distill=False), OwnKernels, 3),
        "own normalisation": (Sandwich(2, distill=False), OwnNormalisation, 3),
        "random networks alone": (RandomAlone(4, distill=False), Supernet, 3),
        "widths of the budget": (at_budget, Supernet, 6),
        "these and own normalisation": (at_budget, OwnNormalisation, 6),
    }


def train(
    task: Task, method: Sandwich, kind: Callable[..., Supernet], widths: int, seed: int
) -> Supernet:
    """A supernet that was trained by one remedy."""
    run, shared = task.run, task.run.shared
    assert shared is not None
    assert shared.widths is not None
    with seeded(seed):
        network = kind(
            run.network, shared.segments, spread(min(shared.widths), max(shared.widths), widths)
        )
    trained = fit(network, task.candidates.dataset, run.recipe, seed=seed, method=method).network
    assert isinstance(trained, Supernet)
    return trained


def judge(task: Task, network: Supernet, seed: int) -> tuple[float, float]:
    """Kendall's tau with the accuracies alone, and the mean accuracy."""
    dataset, recipe = task.candidates.dataset, task.run.recipe
    recipe = recipe.model_copy(update={"batch_size": max(recipe.batch_size, 256)})
    accuracies = []
    for params in task.points:
        point = task.candidates.point(params).network
        accuracies.append(score(network, point.segments, point.width, dataset, recipe, seed).top1)
    tau = kendalltau(task.alone, accuracies).statistic
    return float(tau), float(pd.Series(accuracies).mean())


def try_all(name: str, seed: int) -> None:
    """Add the rows of one task and seed that aren't there yet."""
    task = load_task(name)
    for remedy, (method, kind, widths) in remedies(task).items():
        known = pd.read_csv(ROWS) if ROWS.exists() else pd.DataFrame(columns=FIELDS)
        if ((known.task == name) & (known.remedy == remedy) & (known.seed == seed)).any():
            continue
        tau, mean = judge(task, train(task, method, kind, widths, seed), seed)
        with ROWS.open("a", newline="") as file:
            writer = csv.writer(file)
            if not len(known) and not file.tell():
                writer.writerow(FIELDS)
            writer.writerow([name, remedy, seed, f"{tau:.4f}", f"{mean:.4f}"])


def main() -> None:
    """Train what is missing, and print the mean of each remedy over its seeds."""
    given = sys.argv[1:]
    tasks = [(given[0], int(given[1]))] if given else [(t, s) for t in TASKS for s in range(SEEDS)]
    for name, seed in tasks:
        try_all(name, seed)
    rows = pd.read_csv(ROWS)
    order = list(dict.fromkeys(rows.remedy))
    table = rows.pivot_table(index="remedy", columns="task", values=["tau", "mean_accuracy"])
    print(table.loc[order].round(2).to_string(na_rep="-"))


if __name__ == "__main__":
    main()
