"""The optimiser of a recipe and the schedule of its learning rate."""

from __future__ import annotations

import inspect

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from spectrum.training.recipe import Recipe

__all__ = ["make_optimizer", "make_schedule"]


class _Eager(Optimizer):
    """An optimiser whose methods don't load torch's compiler.

    torch wraps them so that ``torch.compile`` leaves them out, and the wrappers import all of
    ``torch._dynamo``: more than a second for every process that trains, where nothing is compiled.
    """

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)


class _SGD(_Eager, SGD):
    step = torch.no_grad()(inspect.unwrap(SGD.step))


class _RMSprop(_Eager, RMSprop):
    step = torch.no_grad()(inspect.unwrap(RMSprop.step))


class _AdamW(_Eager, AdamW):
    step = torch.no_grad()(inspect.unwrap(AdamW.step))


def make_optimizer(network: nn.Module, recipe: Recipe) -> Optimizer:
    """The optimiser of a network's parameters."""
    parameters, lr, decay = network.parameters(), recipe.lr, recipe.weight_decay
    if recipe.optimizer == "sgd":
        return _SGD(parameters, lr, recipe.momentum, weight_decay=decay, fused=True)
    if recipe.optimizer == "rmsprop":
        return _RMSprop(parameters, lr, momentum=recipe.momentum, weight_decay=decay)
    return _AdamW(parameters, lr, weight_decay=decay, fused=True)


def make_schedule(optimizer: Optimizer, recipe: Recipe, steps: int, batch: int) -> LRScheduler:
    """The schedule of the learning rate, to be stepped after every batch.

    Args:
        optimizer: whose learning rate it sets.
        recipe: what it is.
        steps: batches an epoch.
        batch: images a batch.
    """
    if recipe.schedule == "exponential":
        every = recipe.decay_every * (steps * batch if recipe.decay_unit == "epochs" else 1)
        return LambdaLR(optimizer, lambda step: recipe.decay ** (step * batch // every))
    total = steps * recipe.epochs + 1
    return OneCycleLR(
        optimizer,
        recipe.lr,
        total_steps=total,
        # OneCycleLR divides by the steps of the warm-up less one.
        pct_start=max(recipe.warmup, 1.5 / total),
        cycle_momentum=recipe.optimizer == "adamw",
    )
