"""Everything that changes while a network is trained, to be saved and restored as one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from spectrum.copying import copy_module
from spectrum.training.distributed import parallelize
from spectrum.training.method import Batch, Method
from spectrum.training.optimizer import make_optimizer, make_schedule
from spectrum.training.recipe import Recipe

_Tensors: TypeAlias = tuple[Tensor, ...] | list[Tensor]


@dataclass(frozen=True)
class TrainState:
    """A network in training, with its optimiser, schedule and averaged weights.

    Attributes:
        network: the network whose weights are trained.
        parallel_network: ``network`` wrapped in ``DistributedDataParallel``, which training steps
            call; ``network`` itself if one process trains it.
        averaged: the moving average of the network's weights; None if the recipe has none.
        optimizer: the optimiser of the network's weights.
        schedule: the schedule of the learning rate.
    """

    network: nn.Module
    parallel_network: nn.Module
    averaged: AveragedModel | None
    optimizer: Optimizer
    schedule: LRScheduler

    @property
    def eval_network(self) -> nn.Module:
        """The network to evaluate and to use: the averaged one if there is one."""
        return self.network if self.averaged is None else self.averaged.module

    def state_dict(self) -> dict[str, Any]:
        """The whole state as plain values and tensors."""
        return {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])

    def step(self, method: Method, batch: Batch) -> Tensor:
        """Train on one batch and return its loss, on the device."""
        self.optimizer.zero_grad()
        loss = method.backward(self.parallel_network, batch)
        if batch.recipe.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), batch.recipe.clip)
        self.optimizer.step()
        self.schedule.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.network)
        return loss


def init_train_state(
    network: nn.Module, recipe: Recipe, device: torch.device, steps: int, batch: int
) -> TrainState:
    """Move a network to its device and make the state of a training run that hasn't begun.

    Args:
        network: the network; it is trained in place.
        recipe: how it is trained.
        device: where it is trained.
        steps: batches per epoch.
        batch: images per batch, over all processes.
    """
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    network = network.to(device).to(memory_format=layout)  # type: ignore[call-overload]
    network, parallel_network = parallelize(
        network, synchronised=recipe.batch_norm == "synchronised"
    )
    optimizer = make_optimizer(network, recipe)
    return TrainState(
        network=network,
        parallel_network=parallel_network,
        averaged=averaged_model(network, recipe.average) if recipe.average else None,
        optimizer=optimizer,
        schedule=make_schedule(optimizer, recipe, steps, batch),
    )


def averaged_model(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of a network for the exponential moving average of its weights and buffers."""
    averaged = AveragedModel(nn.Identity(), multi_avg_fn=_moving_average(decay), use_buffers=True)
    averaged.module = copy_module(network)
    return averaged


def _moving_average(decay: float) -> Callable[[_Tensors, _Tensors, Tensor | int], None]:
    """The update of an exponential moving average that forgets the untrained weights.

    Step n decays by (1 + n) / (10 + n) until that reaches ``decay``. TensorFlow's
    ExponentialMovingAverage, which trained the paper's networks, does the same.
    """

    @torch.no_grad()
    def update(averaged: _Tensors, current: _Tensors, n: Tensor | int) -> None:
        weight = 1 - min(decay, (1 + float(n)) / (10 + float(n)))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, weight)
        else:  # batch counters
            torch._foreach_copy_(averaged, current)

    return update
