"""Trains on all processes that torchrun starts: ``torchrun ... together.py FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from spectrum import Dataset, NetworkConfig, Recipe, Sandwich, Split, Supernet, fit
from spectrum.layers import BatchNorm2d, BatchNormReLU
from spectrum.training.distributed import parallelize, rank, world_size
from tests.training.conftest import RECIPE, dataset, network

# The recipe's fields in each case. The learning rate is small, so that rounding doesn't grow.
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "precise": {"average": 0.0, "precise_bn": 40},
    "augmented": {"crop": 1, "flip": True, "cutout": 3, "optimizer": "sgd", "momentum": 0.9},
    "local": {"batch_norm": "local"},
}


class Idle(nn.Module):
    """A network with weights that its output doesn't depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Linear(3, 3)
        self.network = network()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(x)
        return y


def recipe(name: str) -> Recipe:
    given = RECIPE.model_dump(exclude_unset=True)
    return Recipe(**{**given, "lr": 1e-4, "epochs": 2, **CASES[name]})


def several_labels() -> Dataset:
    """The images of ``dataset``, each with any of three labels."""
    data = dataset()

    def split(part: Any) -> Split:
        labels = torch.stack([part.labels == 0, part.labels != 1, part.labels == 2], dim=1)
        return Split(part.images, labels)

    parts = (split(data.train), split(data.validation), split(data.test))
    return Dataset(*parts, data.classes, data.shape, "made up")


def normalised() -> nn.Sequential:
    """A convolution and one batch normalisation of each kind that networks have."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), BatchNorm2d(4), BatchNormReLU(4))


def pixels() -> Tensor:
    return torch.randn(8, 2, 6, 6, generator=torch.Generator().manual_seed(2))


def normalise_a_share() -> dict[str, Any]:
    """Trains one step on this process's share of ``pixels``, without changing weights."""
    model, parallel = parallelize(normalised(), synchronised=True)
    output = parallel(pixels().chunk(world_size())[rank()])
    output.square().mean().backward()
    return {
        "output": output.detach(),
        "state": model.state_dict(),
        "gradient": model[0].weight.grad,
        "types": [type(module).__name__ for module in model],
    }


def main(folder: Path) -> None:
    """Trains every case, and saves what each process has in the end."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    found: dict[str, Any] = {}
    for name in CASES:
        fitted = fit(network(), dataset(), recipe(name))
        found[name] = {"curve": fitted.curve, "state": fitted.network.state_dict()}
    fitted = fit(Idle(), several_labels(), recipe("plain"))
    found["several labels"] = {"curve": fitted.curve, "state": fitted.network.network.state_dict()}
    try:
        fit(network(), dataset(), Recipe(batch_size=15))
    except ValueError as error:
        found["odd"] = str(error)
    shared = Supernet(NetworkConfig(name="tiny", width=0.15, num_classes=3, in_channels=2), [1])
    try:
        fit(shared, dataset(), Recipe(precise_bn=16), method=Sandwich())
    except ValueError as error:
        found["shared"] = str(error)
    seen: list[float] = []
    checkpoint = folder / "checkpoint.pt"

    def stop(line: dict[str, float]) -> None:
        seen.append(line["epoch"])
        if line["epoch"] == 1 and len(seen) == 1:
            raise KeyboardInterrupt

    for _ in range(2):  # rank zero stops the first run, and all resume it
        try:
            fitted = fit(
                network(0.3),
                dataset(),
                recipe("plain"),
                checkpoint=checkpoint,
                on_evaluation=stop,
            )
            found["resumed"] = {"curve": fitted.curve, "state": fitted.network.state_dict()}
        except BaseException as error:
            found["stopped"] = type(error).__name__
    fitted = fit(network(0.3), dataset(), recipe("plain"))
    found["whole"] = {"curve": fitted.curve, "state": fitted.network.state_dict()}
    found["seen"] = seen
    found["normalised"] = normalise_a_share()
    torch.save(found, folder / f"{dist.get_rank()}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
