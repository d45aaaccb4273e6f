"""What changes while a network is trained, as one thing to save and to go on from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from spectrum.training.averaging import averaged_model
from spectrum.training.loss import training_loss
from spectrum.training.metrics import autocast
from spectrum.training.optimizer import make_optimizer, make_schedule
from spectrum.training.processes import in_parallel
from spectrum.training.recipe import Precision, Recipe

__all__ = ["Trainee", "begin"]


@dataclass(frozen=True)
class Trainee:
    """A network with all that its training keeps.

    Attributes:
        network: whose weights are trained.
        called: what is called in its stead in training; the network itself, unless several
            processes train it.
        averaged: the moving average of its weights, if there is one.
        optimizer: of its weights.
        schedule: of the learning rate.
    """

    network: nn.Module
    called: nn.Module
    averaged: AveragedModel | None
    optimizer: Optimizer
    schedule: LRScheduler

    @property
    def evaluated(self) -> nn.Module:
        """The network that is evaluated: the average, if there is one."""
        return self.network if self.averaged is None else self.averaged

    def state(self) -> dict[str, Any]:
        """All of it as plain values and tensors."""
        return {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what ``state`` gave."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])

    def step(self, images: Tensor, labels: Tensor, recipe: Recipe, precision: Precision) -> Tensor:
        """Train on a batch; its loss, on the device."""
        with autocast(images.device, precision):
            output = self.called(images)  # (batch, classes), of an auxiliary head as well
        loss = training_loss(output, labels, recipe)
        self.optimizer.zero_grad()
        loss.backward()
        if recipe.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip)
        self.optimizer.step()
        self.schedule.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.network)
        return loss.detach()


def begin(
    network: nn.Module, recipe: Recipe, device: torch.device, steps: int, batch: int
) -> Trainee:
    """A network on its device, ready to be trained.

    Args:
        network: it is trained in place.
        recipe: how.
        device: where.
        steps: of an epoch.
        batch: images a step, of all processes.
    """
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    network = network.to(device).to(memory_format=layout)  # type: ignore[call-overload]
    network, called = in_parallel(network, synchronised=recipe.batch_norm == "synchronised")
    optimizer = make_optimizer(network, recipe)
    return Trainee(
        network=network,
        called=called,
        averaged=averaged_model(network, recipe.average) if recipe.average else None,
        optimizer=optimizer,
        schedule=make_schedule(optimizer, recipe, steps, batch),
    )
