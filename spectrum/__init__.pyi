from .analysis import (
    compare_points,
    load_curves,
    load_published,
    load_results,
    mean_interval,
    pareto_front,
    state_evidence,
    summarize,
)
from .costs import Costs, Match, MeasuredCosts, count_costs, match_budget, measure_costs
from .data import DataConfig, Dataset, Split, load_data
from .errors import FieldError
from .layers import SegmentedConv
from .networks import (
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
from .report import (
    error_distribution,
    heat_map,
    learning_curves,
    plot_accuracy,
    plot_accuracy_vs_segments,
    plot_differences,
    plot_error_distribution,
    plot_heat_map,
    plot_learning_curves,
)
from .runs import load_run
from .search import SearchConfig, load_trials, run_search
from .segments import Segments
from .study import StudyConfig, run_study
from .training import Diverged, Metrics, Recipe, evaluate, fit

__version__: str

__all__ = [
    "Costs",
    "DataConfig",
    "Dataset",
    "Diverged",
    "FieldError",
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
