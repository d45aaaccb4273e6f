"""How a network is trained and measured: the recipe, the loop, the metrics."""

from spectrum.training.fit import Diverged, Evaluation, Fitted, check_recipe, fit
from spectrum.training.metrics import Metrics, evaluate
from spectrum.training.recipe import PRECISIONS, RECIPES, Precision, Recipe, dropout_of

__all__ = [
    "PRECISIONS",
    "RECIPES",
    "Diverged",
    "Evaluation",
    "Fitted",
    "Metrics",
    "Precision",
    "Recipe",
    "check_recipe",
    "dropout_of",
    "evaluate",
    "fit",
]
