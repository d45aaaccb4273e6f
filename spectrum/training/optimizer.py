"""The optimiser that a recipe names, and the schedule of its learning rate."""

from __future__ import annotations

import inspect

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from spectrum.training.recipe import Recipe


class _WithoutDynamo(Optimizer):
    """An optimiser whose methods don't import torch's compiler.

    torch wraps these methods so that ``torch.compile`` leaves them out. The wrappers import all of
    ``torch._dynamo``, which takes more than a second in every process that trains. Nothing is
    compiled here, so the wrappers are removed.
    """

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)


class _SGD(_WithoutDynamo, SGD):
    step = torch.no_grad()(inspect.unwrap(SGD.step))


class _RMSprop(_WithoutDynamo, RMSprop):
    step = torch.no_grad()(inspect.unwrap(RMSprop.step))


class _AdamW(_WithoutDynamo, AdamW):
    step = torch.no_grad()(inspect.unwrap(AdamW.step))


def make_optimizer(network: nn.Module, recipe: Recipe) -> Optimizer:
    """Make the recipe's optimiser of a network's parameters."""
    parameters, lr, decay = network.parameters(), recipe.lr, recipe.weight_decay
    if recipe.optimizer == "sgd":
        return _SGD(parameters, lr, recipe.momentum, weight_decay=decay, fused=True)
    if recipe.optimizer == "rmsprop":
        return _RMSprop(parameters, lr, momentum=recipe.momentum, weight_decay=decay)
    return _AdamW(parameters, lr, weight_decay=decay, fused=True)


def make_schedule(optimizer: Optimizer, recipe: Recipe, steps: int, batch: int) -> LRScheduler:
    """Make the recipe's schedule of the learning rate, to be stepped after every batch.

    Args:
        optimizer: the optimiser whose learning rate it sets.
        recipe: which schedule, and its settings.
        steps: batches per epoch.
        batch: images per batch.
    """
    if recipe.schedule == "exponential":
        every = recipe.decay_every * (steps * batch if recipe.decay_unit == "epochs" else 1)
        return LambdaLR(optimizer, lambda step: recipe.decay ** (step * batch // every))
    total = steps * recipe.epochs + 1
    return OneCycleLR(
        optimizer,
        recipe.lr,
        total_steps=total,
        # OneCycleLR divides by the number of warm-up steps minus one, which mustn't be 0.
        pct_start=max(recipe.warmup, 1.5 / total),
        cycle_momentum=recipe.optimizer == "adamw",
    )
