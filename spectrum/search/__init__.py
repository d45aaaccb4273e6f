"""Optuna over the dial: the same runs and the same store as studies, on one machine or many."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spectrum.search.config import SearchConfig
    from spectrum.search.search import SearchResult, run_search
    from spectrum.search.table import load_trials

__all__ = ["SearchConfig", "SearchResult", "load_trials", "run_search"]

# Resolved when asked for, so that the command's help doesn't wait for torch.
_HOMES = {
    "SearchConfig": "config",
    "SearchResult": "search",
    "load_trials": "table",
    "run_search": "search",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
