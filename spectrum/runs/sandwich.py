"""Training all networks of a ``Supernet`` at once, and the accuracy of one of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeGuard, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.costs.choices import CountedCost
from spectrum.costs.schedules import ScheduleCounter
from spectrum.data import Dataset
from spectrum.errors import FieldError
from spectrum.layers.arguments import check_choice, check_int
from spectrum.networks import Supernet
from spectrum.networks.members import with_segments
from spectrum.runs.shared_training import SharedTraining
from spectrum.segments import Segments, Setting
from spectrum.training import Metrics, Precision, Recipe, check_recipe, evaluate
from spectrum.training.distributed import world_size
from spectrum.training.method import Batch, forward, label_loss
from spectrum.training.precise_bn import recompute_batch_norm


@dataclass(frozen=True)
class Sandwich:
    """The method of ``fit`` for a ``Supernet``: the sandwich rule with in-place distillation.

    A step sums the gradients of several networks on the same images. The first has the candidate
    with the most parameters in all layers, at the largest width, and learns the labels. The others
    are the one with the fewest parameters at the smallest width, and random ones. They learn the
    class probabilities that the first has just computed (Yu and Huang, arXiv:1903.05134). One that
    is drawn twice in a step, or is one of the two, is executed once.

    In each layer, every candidate is drawn once before any is drawn again, in an order of the
    layer's own (Chu et al., arXiv:1907.01845). Widths are drawn uniformly. The networks of a step
    follow from the seed of the training and the number of the step alone.

    With a budget, a step has the random networks alone, which learn the labels. Each has the one of
    the widths at which its cost is nearest to the budget. So networks are trained about as wide as
    they are when they are compared. A random share of the layers have their order in common, so
    that schedules that lean towards one candidate, which have the outermost widths, are drawn too.

    The learning curve shows the training loss of the first network, and the mean validation loss
    and accuracy of those with one candidate in all layers, at the largest width, each with batch
    normalisation's statistics computed for it. The network that ``fit`` returns is set to the
    first candidate at the largest width, and has the statistics of that.

    Args:
        members: the number of random networks in a step.
        distill: whether the networks after the first learn its probabilities, and not the labels.
            Must be False with a budget.
        budget: the cost that each network should have; None for networks of any cost.
        match: what the budget counts.

    Raises:
        FieldError: an argument is out of its range.
    """

    members: int = 2
    distill: bool = True
    budget: int | None = None
    match: CountedCost = "params"

    def __post_init__(self) -> None:
        least = 0 if self.budget is None else 1
        if self.members < least:
            raise FieldError("members", self.members, f"must be at least {least}")
        check_choice("match", self.match, get_args(CountedCost))
        if self.budget is None and self.match != "params":
            raise FieldError("match", self.match, "must not be given without a budget")
        if self.budget is not None:
            check_int("budget", self.budget)
            if self.distill:
                raise FieldError("distill", self.distill, "must be False with a budget")

    def identify(self, network: nn.Module, dataset: Dataset, recipe: Recipe) -> dict[str, Any]:
        """The candidates, the widths and the fields of this method.

        Raises:
            FieldError: the network is no ``Supernet``, or one of a user's own model with a budget;
                images may have several labels, the recipe has no ``precise_bn``, or several
                processes train.
        """
        if not _is_supernet(network):
            raise FieldError("network", type(network).__name__, "must be a Supernet")
        if self.budget is not None and network.config is None:
            raise FieldError("budget", self.budget, "must be None for a user's own model")
        if dataset.is_multi_label:
            raise FieldError("dataset", dataset.name, "must have one class per image")
        if not recipe.precise_bn:
            allowed = "must be at least 1, as the networks share their running statistics"
            raise FieldError("recipe.precise_bn", 0, allowed)
        if world_size() > 1:
            raise FieldError("processes", world_size(), "must be 1 to train a Supernet")
        return {
            "segments": [str(value) for value in network.segments],
            "widths": list(network.widths),
            "members": self.members,
            "distill": self.distill,
            "budget": None if self.budget is None else f"{self.budget} {self.match}",
        }

    def layers(self, network: nn.Module) -> nn.Module:
        """The convolutions of all networks that may be drawn."""
        assert _is_supernet(network)
        return network.member_layers()

    def backward(self, network: nn.Module, batch: Batch) -> Tensor:
        """Add the gradients of a step's networks, and return the loss of the first."""
        assert _is_supernet(network)
        shape = batch.images.shape[1:]
        first, *others = self.networks(network, batch.seed, batch.step, shape)
        network.set(*first)
        heads = forward(network, batch)
        loss = label_loss(heads, batch)
        loss.backward()
        probabilities = heads[0].detach().softmax(dim=1)
        for other in others:
            network.set(*other)
            logits = forward(network, batch)[0]
            if self.distill:
                F.cross_entropy(logits, probabilities).backward()
            else:
                label_loss([logits], batch).backward()
        return loss.detach()

    def validate(self, network: nn.Module, measure: Callable[[], Metrics]) -> Sequence[Metrics]:
        """Measure the network of each candidate, the one with the most parameters last."""
        assert _is_supernet(network)
        metrics = []
        for value in reversed(network.segments):
            network.set(value)
            metrics.append(measure())
        return metrics

    def networks(
        self, network: Supernet, seed: int, step: int, input_shape: Sequence[int]
    ) -> list[tuple[tuple[Segments, ...], float]]:
        """The networks of a step, each once: the candidate of every layer, and the width.

        Args:
            network: the supernet.
            seed: the seed of the training.
            step: the number of the step, from 0.
            input_shape: the shape of an image, (C, H, W), for which a budget's costs are counted.
        """
        count, layers, widths = len(network.segments), network.layer_count, network.widths
        found = []
        if self.budget is None:
            found = [
                ((network.segments[0],) * layers, widths[0]),
                ((network.segments[-1],) * layers, widths[-1]),
            ]
        for number in range(step * self.members, (step + 1) * self.members):
            round_, place = divmod(number, count)
            generator = torch.Generator().manual_seed(seed * 1_000_003 + round_)
            orders = torch.rand(layers, count, generator=generator).argsort(dim=1, stable=True)
            drawn = torch.randint(len(widths), (count,), generator=generator)
            if self.budget is not None:
                places = torch.rand(layers, generator=generator)
                leaning = places < torch.rand(1, generator=generator)
                orders[leaning] = torch.rand(count, generator=generator).argsort(stable=True)
            schedule = tuple(network.segments[i] for i in orders[:, place].tolist())
            width = widths[int(drawn[place])]
            if self.budget is not None:
                width = self._width_at_budget(network, schedule, tuple(input_shape), self.budget)
            found.append((schedule, width))
        return list(dict.fromkeys(found))

    def _width_at_budget(
        self,
        network: Supernet,
        schedule: tuple[Segments, ...],
        input_shape: tuple[int, ...],
        budget: int,
    ) -> float:
        """The width at which the cost of a schedule is nearest to the budget, as a ratio."""
        count, config = _counter(input_shape), network.config
        assert config is not None

        def miss(width: float) -> float:
            cost = getattr(count(with_segments(config, schedule, width)), self.match)
            return abs(math.log(cost / budget))

        return min(network.widths, key=miss)


@lru_cache(maxsize=8)
def _counter(input_shape: tuple[int, ...]) -> ScheduleCounter:
    """What counts networks, with the counts of layers that it has already made."""
    return ScheduleCounter(input_shape)


def make_sandwich(shared: SharedTraining) -> Sandwich:
    """The method of a run that trains a ``Supernet``.

    Raises:
        FieldError: as in ``Sandwich``.
    """
    return Sandwich(shared.members, shared.distill, shared.budget, shared.match)


def score(
    network: Supernet,
    schedule: Setting,
    width: float | None,
    dataset: Dataset,
    recipe: Recipe,
    seed: int = 0,
    *,
    precision: Precision = "float32",
) -> Metrics:
    """Measure a network of a trained ``Supernet`` on the validation split.

    Batch normalisation's statistics are computed for it first, from ``recipe.precise_bn`` training
    images. With the recipe and the seed of the training these are the ones of its learning curve.

    Args:
        network: the supernet; ``schedule`` and ``width`` stay set.
        schedule: as in ``Supernet.set``.
        width: as in ``Supernet.set``.
        dataset: the data; the splits move to the network's device.
        recipe: says how training images are varied and batched.
        seed: of the images' augmentation.
        precision: of the forward pass.

    Raises:
        FieldError: as in ``Supernet.set``, or the recipe doesn't fit the data.
    """
    network.set(schedule, width)
    device = next(network.parameters()).device
    augmentation, batch = check_recipe(recipe, dataset)
    train = dataset.train.to(device, channels_last=recipe.channels_last)
    recompute_batch_norm(network, train, augmentation, recipe, batch, precision, seed)
    validation = dataset.validation.to(device, channels_last=recipe.channels_last)
    return evaluate(network, validation, precision=precision)


def _is_supernet(network: nn.Module) -> TypeGuard[Supernet]:
    return isinstance(network, Supernet)
