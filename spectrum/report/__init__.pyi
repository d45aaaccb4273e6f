from .cost_figure import cost_figure, plot_costs
from .costs import group_costs
from .curves import learning_curves, plot_learning_curves
from .differences import plot_differences
from .figures import search_figures, study_figures
from .heat_maps import heat_map, plot_heat_map
from .lengths import plot_accuracy_vs_length
from .plots import plot_accuracy, plot_accuracy_vs_segments
from .populations import plot_error_distribution, plot_likely_best, plot_segment_width_trend
from .search import plot_importance, plot_schedules, plot_search_front, plot_search_progress
from .tables import render_summary, render_trials

__all__ = [
    "cost_figure",
    "group_costs",
    "heat_map",
    "learning_curves",
    "plot_accuracy",
    "plot_accuracy_vs_length",
    "plot_accuracy_vs_segments",
    "plot_costs",
    "plot_differences",
    "plot_error_distribution",
    "plot_heat_map",
    "plot_importance",
    "plot_learning_curves",
    "plot_likely_best",
    "plot_schedules",
    "plot_search_front",
    "plot_search_progress",
    "plot_segment_width_trend",
    "render_summary",
    "render_trials",
    "search_figures",
    "study_figures",
]
