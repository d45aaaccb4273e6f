"""Judging a trial without training it: by shared weights, or by what its network counts.

With ``evaluate="shared"`` one run trains a ``Supernet`` of all points. It is a run of the store, so
it is trained once, for all processes and later calls of a search.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import log
from typing import Any, TypeAlias

import numpy as np
from rich.console import Console

from spectrum.analysis.measure import COUNTS, SHARED_ACCURACY
from spectrum.errors import FieldError, counted
from spectrum.executors.base import Engine
from spectrum.executors.local import available_devices
from spectrum.networks import Supernet, is_user_code
from spectrum.networks.members import Members
from spectrum.runs.config import RunConfig
from spectrum.runs.load import load_run
from spectrum.runs.point import Point, for_dataset
from spectrum.runs.sandwich import score
from spectrum.runs.shared_training import SharedTraining
from spectrum.runs.store import Store
from spectrum.search.candidates import Candidates
from spectrum.search.check import discard_damaged
from spectrum.search.optimize import SearchFailed
from spectrum.search.space import segmented_layers
from spectrum.study.study import execute_all
from spectrum.tracking.events import OnStudyEvent

Scorer: TypeAlias = Callable[[Point], dict[str, Any]]
"""Makes the result of a trial from its point: ``status`` and, if done, the measure's value."""

_WIDTHS = {"budget": 6, "sandwich": 3}  # where a budget gives each schedule a width of its own
_MEMBERS = 4  # of a step by the rule "budget"
_MARGIN = 1.02  # by which the outer two lie beyond the widths that a budget needs
_PRECISE_BN = 512  # images for batch normalisation's statistics, if the recipe doesn't say
_BATCH = 256  # of these images at a time


def make_scorer(
    candidates: Candidates, engine: Engine, console: Console, on_event: OnStudyEvent
) -> Scorer | None:
    """Make what judges the trials of a search; None if each trial trains a network.

    Args:
        candidates: the points of the search.
        engine: where the shared weights are trained, unless the store has them.
        console: the console that shows progress.
        on_event: called with each event of that training.

    Raises:
        Interrupted: the training was interrupted. Its checkpoint is kept.
        SearchFailed: it has failed or diverged.
        ValueError: the points can't share their weights.
    """
    config = candidates.config
    if config.counted_proxy is not None:
        return partial(_count, config.counted_proxy)
    if config.evaluate != "shared":
        return None
    point, run = plan_shared(candidates)
    discard_damaged([run.id], Store(config.runs), console)
    (result,) = execute_all(config, [(point, run)], engine, console, (), on_event).values()
    if result["status"] != "done":
        raise SearchFailed(f"the shared training has failed: {result['error']}")
    network = load_run(Store(config.runs).folder(run.id), trust_code=True)
    assert isinstance(network, Supernet)
    network.to(available_devices(config.device)[0])
    batch_size = max(run.recipe.batch_size, min(run.recipe.precise_bn, _BATCH))
    recipe = run.recipe.model_copy(update={"batch_size": batch_size})
    return partial(_score, network, candidates, run.model_copy(update={"recipe": recipe}))


def plan_shared(candidates: Candidates) -> tuple[Point, RunConfig]:
    """The run that trains the shared weights of all points, with its widest and densest network.

    Raises:
        ValueError: the points can't share their weights.
    """
    config = candidates.config
    needs = f"with evaluate (={config.evaluate!r})"
    if candidates.dataset.is_multi_label:
        name = candidates.dataset.name
        raise FieldError("data", name, f"must have one class per image {needs}")
    if config.match != "none" and is_user_code(config.network["name"][0]):
        raise FieldError("match", config.match, f"must be none {needs} for your own model")
    densest, sparsest = (candidates.point(params) for params in _extremes(candidates))
    searched = config.axes().get(("network", "width"), ())  # as a flag, or in the table
    widths = tuple(map(float, searched)) if len(searched) > 1 else None
    if config.match != "none":
        widths = spread(
            densest.network.width / _MARGIN,
            sparsest.network.width * _MARGIN,
            _WIDTHS[config.resolved_shared_rule],
        )
    network = densest.network.model_copy(update={"segments": candidates.config.segments[0]})
    if widths is not None:
        network = network.model_copy(update={"width": max(widths)})
    recipe = densest.recipe.model_copy(
        update={
            "epochs": config.shared_epochs or densest.recipe.epochs,
            "precise_bn": densest.recipe.precise_bn or _PRECISE_BN,
        }
    )
    fields: dict[str, Any] = {}
    if config.resolved_shared_rule == "budget":
        budget = {"budget": candidates.solver.budget, "match": config.match}
        fields = {"members": _MEMBERS, "distill": False, **budget}
    shared = SharedTraining(segments=config.segments, widths=widths, **fields)
    Members(network, shared.segments, shared.widths)  # it raises a FieldError
    point = replace(densest, network=network, recipe=recipe)
    return point, point.run(seed=0).model_copy(update={"shared": shared})


def describe_shared(candidates: Candidates) -> str:
    """The shared training in a sentence."""
    point, run = plan_shared(candidates)
    assert run.shared is not None
    widths = [f"{width:.4g}" for width in run.shared.widths or (point.network.width,)]
    return (
        f"one training of {counted(point.recipe.epochs, 'epoch')} is shared by all points, with "
        f"the segments {', '.join(run.shared.segments)} in each layer and the "
        f"width{'s' * (len(widths) > 1)} {', '.join(widths)}, by the rule "
        f"{candidates.config.resolved_shared_rule}"
    )


def _count(cost: str, point: Point) -> dict[str, Any]:
    return {"status": "done", COUNTS[cost].validation_column: getattr(point, cost)}


def _score(
    network: Supernet, candidates: Candidates, run: RunConfig, point: Point
) -> dict[str, Any]:
    width = None if run.shared is None or run.shared.widths is None else point.network.width
    try:
        metrics = score(
            network,
            point.network.segments,
            width,
            candidates.dataset,
            run.recipe,
            run.seed,
            precision=run.precision,
        )
    except FieldError as error:
        return {"status": "failed", "error": str(error)}
    epochs = run.recipe.epochs
    return {"status": "done", SHARED_ACCURACY.validation_column: metrics.top1, "epochs": epochs}


def _extremes(candidates: Candidates) -> tuple[dict[str, str], dict[str, str]]:
    """The points with the most and the fewest weights in each part of the network."""
    space = candidates.space
    network = for_dataset(next(candidates.config.combinations()).network, candidates.dataset)
    weights = {}
    for value in candidates.config.segments:
        layers = segmented_layers(network.model_copy(update={"segments": value})).values()
        weights[value] = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    first = {name: values[0] for name, values in space.choices.items()}
    most, fewest = dict(first), dict(first)
    for name, indices in space.layer_indices.items():

        def size(value: str, indices: tuple[int, ...] = indices) -> int:
            return sum(weights[value][i] for i in indices)

        most[name] = max(space.choices[name], key=size)
        fewest[name] = min(space.choices[name], key=size)
    return most, fewest


def spread(low: float, high: float, count: int) -> tuple[float, ...]:
    """Widths from the lowest to the highest, each by the same factor larger than the last."""
    values = np.exp(np.linspace(log(low), log(high), count))
    return tuple(float(f"{value:.4g}") for value in values)
