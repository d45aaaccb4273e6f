"""The dial from regular to depthwise separable convolution.

Between a regular convolution (one segment) and a depthwise separable one (one a channel) lies a
discrete spectrum. This package builds, counts, trains and compares networks along it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spectrum.costs import Costs, Match, MeasuredCosts, count_costs, match_budget, measure_costs
    from spectrum.data import DataConfig, Dataset, Split, load_data
    from spectrum.layers import SegmentedConv
    from spectrum.networks import (
        NetworkConfig,
        build,
        convert,
        inception_v2,
        inception_v3,
        load_weights,
        preprocessing,
        projection_loss,
        resegment,
        resnet,
        vgg,
        xception,
    )
    from spectrum.report import (
        error_distribution,
        heat_map,
        learning_curves,
        load_published,
        mean_interval,
        pareto_front,
        plot_accuracy,
        plot_accuracy_vs_segments,
        plot_differences,
        plot_error_distribution,
        plot_heat_map,
        plot_learning_curves,
        state_evidence,
        summarize,
    )
    from spectrum.search import SearchConfig, load_trials, run_search
    from spectrum.segments import Segments
    from spectrum.study import (
        StudyConfig,
        compare_points,
        load_curves,
        load_results,
        load_run,
        run_study,
    )
    from spectrum.training import Diverged, Metrics, Recipe, evaluate, fit

__all__ = [
    "Costs",
    "DataConfig",
    "Dataset",
    "Diverged",
    "Match",
    "MeasuredCosts",
    "Metrics",
    "NetworkConfig",
    "Recipe",
    "SearchConfig",
    "SegmentedConv",
    "Segments",
    "Split",
    "StudyConfig",
    "build",
    "compare_points",
    "convert",
    "count_costs",
    "error_distribution",
    "evaluate",
    "fit",
    "heat_map",
    "inception_v2",
    "inception_v3",
    "learning_curves",
    "load_curves",
    "load_data",
    "load_published",
    "load_results",
    "load_run",
    "load_trials",
    "load_weights",
    "match_budget",
    "mean_interval",
    "measure_costs",
    "pareto_front",
    "plot_accuracy",
    "plot_accuracy_vs_segments",
    "plot_differences",
    "plot_error_distribution",
    "plot_heat_map",
    "plot_learning_curves",
    "preprocessing",
    "projection_loss",
    "resegment",
    "resnet",
    "run_search",
    "run_study",
    "state_evidence",
    "summarize",
    "vgg",
    "xception",
]

# Resolved when asked for: torch, matplotlib and scikit-learn take seconds to import.
_ROOMS = {
    "costs": (
        *("Costs", "Match", "MeasuredCosts", "count_costs", "match_budget", "measure_costs"),
    ),
    "data": ("DataConfig", "Dataset", "Split", "load_data"),
    "layers": ("SegmentedConv",),
    "networks": (
        *("NetworkConfig", "build", "convert", "inception_v2", "inception_v3", "load_weights"),
        *("preprocessing", "projection_loss", "resegment", "resnet", "vgg", "xception"),
    ),
    "report": (
        *("error_distribution", "heat_map", "learning_curves", "load_published", "mean_interval"),
        *("pareto_front", "plot_accuracy", "plot_accuracy_vs_segments", "plot_differences"),
        *("plot_error_distribution", "plot_heat_map", "plot_learning_curves", "state_evidence"),
        "summarize",
    ),
    "search": ("SearchConfig", "load_trials", "run_search"),
    "segments": ("Segments",),
    "study": (
        *("StudyConfig", "compare_points", "load_curves", "load_results", "load_run"),
        "run_study",
    ),
    "training": ("Diverged", "Metrics", "Recipe", "evaluate", "fit"),
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
