"""From results and costs to what is read: statistics, tables and plots of a DataFrame.

Nothing here but the command in ``__main__`` imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spectrum.report.costs import group_costs
    from spectrum.report.curves import learning_curves, plot_learning_curves
    from spectrum.report.dial import figure_of_costs
    from spectrum.report.differences import plot_differences
    from spectrum.report.figures import study_figures
    from spectrum.report.frontier import pareto_front
    from spectrum.report.heat import heat_map, plot_heat_map
    from spectrum.report.plots import plot_accuracy, plot_accuracy_vs_segments
    from spectrum.report.populations import error_distribution, plot_error_distribution
    from spectrum.report.published import load_published
    from spectrum.report.search_data import hypervolume, search_front, search_progress
    from spectrum.report.search_plots import plot_search_front, plot_search_progress
    from spectrum.report.search_settings import plot_importance, plot_schedules
    from spectrum.report.sentences import state_evidence
    from spectrum.report.statistics import mean_interval, summarize
    from spectrum.report.tables import render_summary

__all__ = [
    "error_distribution",
    "figure_of_costs",
    "group_costs",
    "heat_map",
    "hypervolume",
    "learning_curves",
    "load_published",
    "mean_interval",
    "pareto_front",
    "plot_accuracy",
    "plot_accuracy_vs_segments",
    "plot_differences",
    "plot_error_distribution",
    "plot_heat_map",
    "plot_importance",
    "plot_learning_curves",
    "plot_schedules",
    "plot_search_front",
    "plot_search_progress",
    "render_summary",
    "search_front",
    "search_progress",
    "state_evidence",
    "study_figures",
    "summarize",
]

# Resolved when asked for, so that the command's help doesn't wait for matplotlib and scipy.
_HOMES = {
    "error_distribution": "populations",
    "figure_of_costs": "dial",
    "group_costs": "costs",
    "heat_map": "heat",
    "hypervolume": "search_data",
    "learning_curves": "curves",
    "load_published": "published",
    "mean_interval": "statistics",
    "pareto_front": "frontier",
    "plot_accuracy": "plots",
    "plot_accuracy_vs_segments": "plots",
    "plot_differences": "differences",
    "plot_error_distribution": "populations",
    "plot_heat_map": "heat",
    "plot_importance": "search_settings",
    "plot_learning_curves": "curves",
    "plot_schedules": "search_settings",
    "plot_search_front": "search_plots",
    "plot_search_progress": "search_plots",
    "render_summary": "tables",
    "search_front": "search_data",
    "search_progress": "search_data",
    "state_evidence": "sentences",
    "study_figures": "figures",
    "summarize": "statistics",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
