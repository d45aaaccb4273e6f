"""A small data set, a small network, and a training of both."""

from typing import Any

import torch
from torch import nn

from spectrum import Dataset, Recipe, Split, fit, xception
from spectrum.training import FitResult

RECIPE = Recipe(epochs=3, batch_size=16, lr=0.01)


def dataset(n: int = 70) -> Dataset:
    generator = torch.Generator().manual_seed(0)

    def split() -> Split:
        labels = torch.randint(3, (n,), generator=generator)
        images = torch.randn(n, 2, 8, 8, generator=generator) + labels[:, None, None, None]
        return Split(images, labels)

    return Dataset(split(), split(), split(), ("a", "b", "c"), (2, 8, 8), "made up")


def network(dropout: float = 0.0, width: float = 0.15) -> nn.Module:
    torch.manual_seed(0)
    return xception(
        preset="tiny", num_classes=3, in_channels=2, width=width, dropout=dropout, segments=1
    )


def train(dropout: float = 0.0, **changes: Any) -> FitResult:
    """Fit the network; a field of the recipe or an option of ``fit`` may be another."""
    fields = {k: v for k, v in changes.items() if k in Recipe.model_fields}
    options = {k: v for k, v in changes.items() if k not in Recipe.model_fields}
    base = {} if "name" in fields else RECIPE.model_dump(exclude_unset=True)
    return fit(network(dropout), dataset(), Recipe(**{**base, **fields}), **options)


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)
