"""Many runs: what a study asks for, where its runs execute, where their results stay."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spectrum.study.config import StudyConfig
    from spectrum.study.evidence import compare_points
    from spectrum.study.results import load_curves, load_results
    from spectrum.study.store import Store, load_run
    from spectrum.study.study import run_study

__all__ = [
    "Store",
    "StudyConfig",
    "compare_points",
    "load_curves",
    "load_results",
    "load_run",
    "run_study",
]

# Resolved when asked for, so that the command's help doesn't wait for torch.
_HOMES = {
    "Store": "store",
    "StudyConfig": "config",
    "compare_points": "evidence",
    "load_curves": "results",
    "load_results": "results",
    "load_run": "store",
    "run_study": "study",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
