"""What the literature offers for a better order of schedules, each tried alone.

python studies/shared_weights/remedies.py              prints what remedies.csv says
python studies/shared_weights/remedies.py digits 0     trains each on one task and seed first

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
from compare import FOLDER, choices_of, runs_of, search, steps_per_epoch
from front import TABLE, candidates_with
from scipy.stats import kendalltau
from torch import Tensor, nn
from torch.func import functional_call

from spectrum import Sandwich, Supernet, fit, score
from spectrum.errors import counted
from spectrum.layers.shared import SharedConv
from spectrum.networks.replace import assign_segments
from spectrum.runs.config import RunConfig
from spectrum.search.candidates import Candidates, make_candidates
from spectrum.search.scoring import plan_shared, spread
from spectrum.search.space import make_space
from spectrum.segments import Segments, Setting
from spectrum.training.seeding import seeded

ROWS = FOLDER / "remedies.csv"
FIELDS = ("task", "remedy", "seed", "runs", "tau", "mean_accuracy")
EPOCHS = 4
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
    """Schedules with their accuracies alone, and the table with their costs."""

    candidates: Candidates
    run: RunConfig
    points: list[dict[str, str]]
    alone: pd.Series
    table: pd.DataFrame


def load_task(name: str) -> Task:
    """The schedules of a task, with a shared training of ``EPOCHS`` epochs."""
    if name == "digits":
        candidates = candidates_with(EPOCHS, "sandwich")
        by_text = {candidates.space.segments(p): p for p in candidates.space.all_points()}
        table = pd.read_csv(TABLE)
        alone = table.groupby("segments")["test_top1"].mean()
        points = [by_text[text] for text in alone.index]
    else:
        config = search(name, "sandwich", EPOCHS)
        candidates = make_candidates(make_space(config))
        table = pd.read_csv(FOLDER / f"{name}.csv")
        alone = table.set_index("segments")["alone"]
        points = [choices_of(candidates, text) for text in alone.index]
    _, run = plan_shared(candidates)
    return Task(candidates, run, points, alone, table)


def remedies(task: Task) -> dict[str, tuple[Sandwich, Callable[..., Supernet], int]]:
    """Each remedy by name: the method, the supernet, and the number of widths."""
    config = task.candidates.config
    at_budget = Sandwich(4, False, int(task.candidates.solver.budget or 0), config.match)
    steps = task.run.recipe.epochs * steps_per_epoch(task.candidates, task.run.recipe)
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


def make_network(task: Task, kind: Callable[..., Supernet], widths: int, seed: int) -> Supernet:
    """A supernet of a task with new weights."""
    shared = task.run.shared
    assert shared is not None
    assert shared.widths is not None
    all_widths = spread(min(shared.widths), max(shared.widths), widths)
    with seeded(seed):
        return kind(task.run.network, shared.segments, all_widths)


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
        network = make_network(task, kind, widths, seed)
        runs = runs_of(method, network, task.run, task.candidates, task.table)
        recipe = task.run.recipe
        trained = fit(network, task.candidates.dataset, recipe, seed=seed, method=method).network
        assert isinstance(trained, Supernet)
        tau, mean = judge(task, trained, seed)
        with ROWS.open("a", newline="") as file:
            writer = csv.writer(file)
            if not len(known) and not file.tell():
                writer.writerow(FIELDS)
            writer.writerow([name, remedy, seed, f"{runs:.1f}", f"{tau:.4f}", f"{mean:.4f}"])


def main() -> None:
    """Train the remedies of a task and seed if one is given; print the means over seeds."""
    if sys.argv[1:]:
        name, seed = sys.argv[1:]
        try_all(name, int(seed))
    rows = pd.read_csv(ROWS)
    for task, group in rows.groupby("task"):
        found = group.groupby("remedy", sort=False)[["runs", "tau", "mean_accuracy"]].mean()
        print(f"{task}, {counted(group['seed'].nunique(), 'shared training')} of each")
        print(found.round(2).reset_index().to_string(index=False), end="\n\n")


if __name__ == "__main__":
    main()
