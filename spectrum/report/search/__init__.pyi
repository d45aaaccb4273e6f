from .plots import plot_search_front, plot_search_progress
from .settings import plot_importance, plot_schedules

__all__ = [
    "plot_importance",
    "plot_schedules",
    "plot_search_front",
    "plot_search_progress",
]
