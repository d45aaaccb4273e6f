"""Points: everything that defines a run except its seed.

A study or search solves the width of each of its combinations (``solve``), makes a point of it
and asks the point for the run of each seed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from spectrum.data import DataConfig, Dataset
from spectrum.networks import NetworkConfig
from spectrum.runs.config import RunConfig
from spectrum.runs.solve import Solved
from spectrum.training import Precision, Recipe
from spectrum.training.distributed import world_size


@dataclass(frozen=True)
class Point(Solved):
    """One combination of a study, from which the run of any seed can be made.

    Attributes:
        data: the data source and how it is split.
        fingerprint: a hash of the content of the data.
        start: a fingerprint of the weights that training starts from; "" for random ones.
        recipe: how the network is trained.
        precision: the precision of the forward pass.
        map_at: the k of the mean average precision at k, if images can have several labels;
            otherwise None.
        test_images: the number of test images.
        drawn: if each seed draws its own images, how many it trains on, and out of how many;
            otherwise None.
    """

    data: DataConfig
    fingerprint: str
    start: str
    recipe: Recipe
    precision: Precision
    map_at: int | None
    test_images: int
    drawn: tuple[int, int] | None

    def run(self, seed: int) -> RunConfig:
        """The run of this point with the given seed."""
        return RunConfig(
            network=self.network,
            data=self.data,
            fingerprint=self.fingerprint,
            recipe=self.recipe,
            seed=seed,
            precision=self.precision,
            code=self.code,
            start=self.start,
            processes=world_size() if self.recipe.batch_norm == "local" else 1,
        )


def for_dataset(network: NetworkConfig, dataset: Dataset) -> NetworkConfig:
    """A copy of a network's configuration with the classes and channels of a data set."""
    sizes = {"num_classes": len(dataset.classes), "in_channels": dataset.shape[0]}
    return network.model_copy(update=sizes)


def make_point(
    solved: Solved,
    data: DataConfig,
    dataset: Dataset,
    recipe: Recipe,
    precision: Precision,
    start: str = "",
) -> Point:
    """Make a point.

    Args:
        solved: the network at its budget, with its costs.
        data: the data source and how it is split.
        dataset: the data themselves.
        recipe: how the network is trained.
        precision: the precision of the forward pass.
        start: a fingerprint of the weights that training starts from; "" for random ones.
    """
    solved = replace(solved, notes=(*dataset.notes, *solved.notes))
    return Point(
        **vars(solved),
        data=data,
        fingerprint=dataset.fingerprint,
        start=start,
        recipe=recipe,
        precision=precision,
        map_at=dataset.map_at if dataset.is_multi_label else None,
        test_images=len(dataset.test),
        drawn=(len(dataset.train), dataset.drawn_from) if dataset.drawn_from else None,
    )
