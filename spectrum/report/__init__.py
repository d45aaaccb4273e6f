"""From results to what is read: statistics, tables and plots of a DataFrame. Imports no torch."""

from spectrum.report.plots import plot_accuracy, plot_accuracy_vs_segments
from spectrum.report.statistics import mean_interval, summarize
from spectrum.report.tables import render_summary

__all__ = [
    "mean_interval",
    "plot_accuracy",
    "plot_accuracy_vs_segments",
    "render_summary",
    "summarize",
]
