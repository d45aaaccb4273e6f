"""The points of a study that are drawn at random within limits.

The method is that of Radosavovic et al., Designing Network Design Spaces (arXiv:2003.13678,
section 3.1): networks are drawn from a design space until enough of them are within a band of
costs. Here each setting of the dial has the same number of them, so that their distributions can be
compared.
"""

from __future__ import annotations

import math

from rich.console import Console

from spectrum.errors import FieldError
from spectrum.runs.point import Point
from spectrum.study.config import MOST_TRIED, StudyConfig
from spectrum.study.solver import PointSolver
from spectrum.terminal import shown_progress


def draw_points(config: StudyConfig, solver: PointSolver, console: Console | None) -> list[Point]:
    """Draws the points of a sampled study within its limits.

    All settings of the dial try the combinations of the other fields in the same random order, and
    each takes the first ones that are within the limits. So a combination that is within them at
    every setting is likely to be trained at every setting.

    Args:
        config: the study. It has a sample and limits.
        solver: makes the points.
        console: where progress is shown.

    Returns:
        The points, ``config.sample`` of each setting, with the settings in turn.

    Raises:
        ValueError: too few combinations are within the limits, or a point can't be built.
    """
    solver.prepare(next(config.combinations()))  # it sets the budget, unless that is configured
    drawn = [_draw_setting(config, segments, solver, console) for segments in config.segments]
    return [point for points in zip(*drawn, strict=True) for point in points]


def _draw_setting(
    config: StudyConfig, segments: str, solver: PointSolver, console: Console | None
) -> list[Point]:
    """The first points of one setting of the dial that are within the limits."""
    assert config.sample is not None
    taken: dict[str, Point] = {}
    tried: list[Point] = []
    points = map(solver.point, config.draw(segments, MOST_TRIED * config.sample))
    for _ in shown_progress(range(config.sample), f"drawing networks at {segments}", console):
        before = len(taken)
        while len(taken) == before:
            point = next(points, None)
            if point is None:
                allowed = _explain_too_few(config, segments, tried, len(taken))
                raise FieldError("sample", config.sample, allowed)
            tried.append(point)
            if _is_within(config, point):
                taken[point.run(seed=0).id] = point
    return [*taken.values()]


def _is_within(config: StudyConfig, point: Point) -> bool:
    return all(
        (low or 0) <= getattr(point, cost) <= (high or math.inf)
        for cost, (low, high) in config.bands().items()
    )


def _explain_too_few(config: StudyConfig, segments: str, tried: list[Point], found: int) -> str:
    ranges = []
    for cost in config.bands() if tried else ():
        counts = [getattr(point, cost) for point in tried]
        ranges.append(f"{min(counts):,} to {max(counts):,} {cost}")
    costs = f"; they have {' and '.join(ranges)}" if ranges else ""
    return (
        f"must be fewer, or have other limits: {found} of {len(tried):,} combinations tried at "
        f"segments {segments} are within the limits{costs}"
    )
