"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from spectrum.data import Dataset, Split
from spectrum.training.averaging import averaged_model, renew_statistics
from spectrum.training.checkpoint import load_checkpoint, save_checkpoint
from spectrum.training.metrics import autocast, evaluate
from spectrum.training.optimizer import make_optimizer, make_schedule
from spectrum.training.recipe import Precision, Recipe
from spectrum.training.seeding import seeded

__all__ = ["Diverged", "Evaluation", "Fitted", "fit"]

Evaluation: TypeAlias = dict[str, float]
"""``epoch, samples, lr, train_loss, val_loss, val_top1, seconds``.

Samples and seconds are those of training so far, without the evaluations; the learning rate is
the one that training goes on with.
"""

AUXILIARY_WEIGHT = 0.4
"""Of an auxiliary head's loss beside the main one; what Inception V3's own training code takes."""


class Diverged(RuntimeError):
    """The loss is no longer a finite number."""


class Fitted(NamedTuple):
    """What ``fit`` gives.

    Attributes:
        curve: an evaluation on the validation split after every epoch.
        network: the trained network, its weights averaged where the recipe says so.
    """

    curve: list[Evaluation]
    network: nn.Module


_DEFAULT = Recipe()


def fit(
    network: nn.Module,
    dataset: Dataset,
    recipe: Recipe = _DEFAULT,
    seed: int = 0,
    device: str | torch.device = "cpu",
    *,
    precision: Precision = "float32",
    checkpoint: Path | str | None = None,
    on_evaluation: Callable[[Evaluation], None] | None = None,
) -> Fitted:
    """Train a classifier on the training split; the test split is never touched.

    The order of the data and the random numbers of an epoch follow from ``seed`` and the epoch
    alone, so a training that goes on from its checkpoint ends with the same weights as one that
    was never stopped. torch's own random state is left as it was.

    Args:
        network: images (N, C, H, W) to logits (N, classes); it is trained in place. In training
            mode it may give a tuple, the main logits and those of auxiliary heads.
        dataset: its splits are taken to the device once.
        recipe: the optimiser, the schedule and the rest.
        seed: of the order of the data and of dropout; initial weights are the network's own.
        device: where to train.
        precision: of the forward pass; weights and optimiser stay float32.
        checkpoint: a file to save the state to after every epoch, and to go on from.
        on_evaluation: called with each line of the curve, also with those of a checkpoint.

    Returns:
        The curve and the network to use.

    Raises:
        Diverged: the training or validation loss is not finite after some epoch.
        ValueError: an unknown precision, or a checkpoint of another recipe, seed or precision.
    """
    device = torch.device(device)
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    network = network.to(device).to(memory_format=layout)  # type: ignore[call-overload]
    train = dataset.train.to(device, channels_last=recipe.channels_last)
    validation = dataset.validation.to(device, channels_last=recipe.channels_last)
    batch = min(recipe.batch_size, len(train))
    steps = len(train) // batch

    optimizer = make_optimizer(network, recipe)
    schedule = make_schedule(optimizer, recipe, steps, batch)
    averaged = averaged_model(network, recipe.average) if recipe.average else None
    curve: list[Evaluation] = []
    origin = {"recipe": recipe.model_dump(), "seed": seed, "precision": precision}

    path = Path(checkpoint) if checkpoint else None
    state = load_checkpoint(path) if path else None
    if state is not None:
        if state.get("origin") != origin:
            raise ValueError(f"checkpoint (={path}) must be of the same recipe, seed and precision")
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        if averaged is not None:
            averaged.load_state_dict(state["averaged"])
        curve = state["curve"]
        for line in curve if on_evaluation else []:
            on_evaluation(line)  # type: ignore[misc]

    for epoch in range(len(curve) + 1, recipe.epochs + 1):
        started = time.perf_counter()
        with seeded(seed * 1_000_003 + epoch):
            order = torch.randperm(len(train))[: steps * batch].to(device)
            train_loss = _train_epoch(
                network, averaged, optimizer, schedule, train, order.split(batch), recipe, precision
            )
        seconds = time.perf_counter() - started + (curve[-1]["seconds"] if curve else 0.0)
        if recipe.precise_bn:
            with seeded(seed):  # dropout draws numbers here too
                some = train.images[: max(recipe.precise_bn, batch)]
                renew_statistics(averaged or network, some, batch, precision)
        measured = evaluate(averaged or network, validation, precision=precision)
        line = {
            "epoch": epoch,
            "samples": epoch * steps * batch,
            "lr": float(schedule.get_last_lr()[0]),
            "train_loss": train_loss,
            "val_loss": measured.loss,
            "val_top1": measured.top1,
            "seconds": seconds,
        }
        for split, loss in (("training", train_loss), ("validation", measured.loss)):
            if not math.isfinite(loss):
                raise Diverged(f"{split} loss is {loss} in epoch {epoch} of {recipe.epochs}")
        curve.append(line)
        if path:
            state = {
                "origin": origin,
                "network": network.state_dict(),
                "averaged": averaged.state_dict() if averaged is not None else None,
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "curve": curve,
            }
            save_checkpoint(path, state)
        if on_evaluation:
            on_evaluation(line)
    return Fitted(curve, averaged.module if averaged is not None else network)


def _train_epoch(
    network: nn.Module,
    averaged: AveragedModel | None,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    train: Split,
    batches: tuple[Tensor, ...],
    recipe: Recipe,
    precision: Precision,
) -> float:
    """One pass over the batches; the mean training loss."""
    network.train()
    total = torch.zeros((), device=train.labels.device)
    for batch in batches:
        with autocast(batch.device, precision):
            output = network(train.images[batch])  # (batch, classes), of an auxiliary head as well
        heads = output if isinstance(output, tuple) else (output,)
        losses = [
            F.cross_entropy(
                logits.float(), train.labels[batch], label_smoothing=recipe.label_smoothing
            )
            for logits in heads
        ]
        loss = losses[0] + AUXILIARY_WEIGHT * sum(losses[1:])
        optimizer.zero_grad()
        loss.backward()
        if recipe.clip:
            nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        optimizer.step()
        schedule.step()
        if averaged is not None:
            averaged.update_parameters(network)
        total += loss.detach()
    return total.item() / len(batches)
