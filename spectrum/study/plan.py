"""The plan of a study: its points with their widths solved and costs counted, and its runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from spectrum.runs.config import RunConfig
from spectrum.runs.initial_weights import InitialWeights
from spectrum.runs.point import Point
from spectrum.study.config import StudyConfig
from spectrum.study.solver import PointSolver


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


def make_plan(config: StudyConfig, on_point: Callable[[int], None] | None = None) -> Plan:
    """Loads the data, solves every width and counts every cost. Nothing is trained.

    Latencies are measured, and kept in the store.

    Args:
        config: the configuration of the study.
        on_point: called after each point, with the number of points so far.

    Raises:
        ValueError: a point can't be built, or its data can't be split.
    """
    solver = PointSolver(config, measures_latency=config.match == "latency", start=config.start)
    points: list[Point] = []
    for combination in config.combinations():
        points.append(solver.point(combination))
        if on_point:
            on_point(len(points))
    return Plan(config, tuple(points), solver.budget, tuple(solver.initial_weights.values()))
