"""From results and costs to what is read: statistics, tables and plots of a DataFrame.

Nothing here but the command in ``__main__`` imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spectrum.report.costs import group_costs
    from spectrum.report.dial import figure_of_costs
    from spectrum.report.plots import plot_accuracy, plot_accuracy_vs_segments
    from spectrum.report.sentences import state_evidence
    from spectrum.report.statistics import mean_interval, summarize
    from spectrum.report.tables import render_summary

__all__ = [
    "figure_of_costs",
    "group_costs",
    "mean_interval",
    "plot_accuracy",
    "plot_accuracy_vs_segments",
    "render_summary",
    "state_evidence",
    "summarize",
]

# Resolved when asked for, so that the command's help doesn't wait for matplotlib and scipy.
_HOMES = {
    "figure_of_costs": "dial",
    "group_costs": "costs",
    "mean_interval": "statistics",
    "plot_accuracy": "plots",
    "plot_accuracy_vs_segments": "plots",
    "render_summary": "tables",
    "state_evidence": "sentences",
    "summarize": "statistics",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
