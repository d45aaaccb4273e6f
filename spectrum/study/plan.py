"""The plan of a study: its points with their widths solved and costs counted, and its runs."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from spectrum.runs.config import RunConfig
from spectrum.runs.initial_weights import InitialWeights
from spectrum.runs.point import Point
from spectrum.study.config import StudyConfig
from spectrum.study.sampling import draw_points
from spectrum.study.solver import PointSolver
from spectrum.terminal import shown_progress


@dataclass(frozen=True)
class Plan:
    """The points and runs of a study.

    Attributes:
        config: the configuration of the study.
        points: the points, in the order of the grid.
        budget: what each point should cost in ``config.match``, in milliseconds for latency; None
            if no cost is matched.
        initial_weights: the weights that runs start from; empty for random weights.
    """

    config: StudyConfig
    points: tuple[Point, ...]
    budget: float | None
    initial_weights: tuple[InitialWeights, ...]

    def runs(self) -> list[tuple[Point, RunConfig]]:
        """Lists every run with its point, seed by seed, so that early results cover all points."""
        return [(p, p.run(seed)) for seed in range(self.config.seeds) for p in self.points]

    def notes(self) -> list[str]:
        """What the user should know about the points, such as layers that saturate."""
        notes = dict.fromkeys(note for point in self.points for note in point.notes)
        wanted = True in self.config.axes().get(("network", "shuffle"), ())
        if wanted and not any(point.network.shuffle for point in self.points):
            notes["shuffle has no effect: no 1x1 convolution has more than one segment"] = None
        return list(notes)


def make_plan(config: StudyConfig, console: Console | None = None) -> Plan:
    """Loads the data, solves every width and counts every cost. Nothing is trained.

    Latencies are measured, and kept in the store.

    Args:
        config: the configuration of the study.
        console: where progress is shown: a bar on a terminal, else a line now and then. None for
            nowhere.

    Raises:
        ValueError: a point can't be built, or its data can't be split.
    """
    solver = PointSolver(config, measures_latency=config.match == "latency", start=config.start)
    if config.bands():
        points = draw_points(config, solver, console)
    else:
        combinations = list(config.combinations())
        points = [
            solver.point(combination)
            for combination in shown_progress(combinations, "planning", console)
        ]
    return Plan(config, tuple(points), solver.budget, tuple(solver.initial_weights.values()))
