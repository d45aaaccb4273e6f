from .curve import Evaluation
from .fit import CheckpointMismatch, Diverged, FitResult, check_recipe, fit
from .metrics import Metrics, evaluate
from .recipe import PRECISIONS, RECIPES, Precision, Recipe, default_dropout

__all__ = [
    "PRECISIONS",
    "RECIPES",
    "CheckpointMismatch",
    "Diverged",
    "Evaluation",
    "FitResult",
    "Metrics",
    "Precision",
    "Recipe",
    "check_recipe",
    "default_dropout",
    "evaluate",
    "fit",
]
