"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from spectrum.data import Augmentation, Dataset, Examples
from spectrum.training.averaging import renew_statistics
from spectrum.training.checkpoint import load_checkpoint, save_checkpoint
from spectrum.training.metrics import evaluate
from spectrum.training.processes import (
    count,
    from_first,
    gather,
    mean_buffers,
    mean_over,
    number,
)
from spectrum.training.recipe import Precision, Recipe
from spectrum.training.seeding import random_state, restore_random_state, seeded
from spectrum.training.state import Trainee, begin

__all__ = ["Diverged", "Evaluation", "Fitted", "check_recipe", "fit"]

Evaluation: TypeAlias = dict[str, float]
"""``epoch, samples, lr, train_loss, val_loss, val_top1, seconds``, and ``val_map`` where images
have several labels.

Samples and seconds are those of training so far, without the evaluations; the learning rate is
the one that training goes on with.
"""

_SAVED_EVERY = 600.0  # seconds within an epoch
_ASKED_EVERY = 50  # steps until processes agree whether to save


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

    Where ``torch.distributed`` is initialised, its processes train together: each on its share of
    every batch, with the result that one process has, up to rounding and to dropout, which each
    draws for itself. All must call this alike; the first alone reads and writes ``checkpoint``
    and calls ``on_evaluation``.

    Args:
        network: images (N, C, H, W) to logits (N, classes); it is trained in place. In training
            mode it may give a tuple, the main logits and those of auxiliary heads.
        dataset: its splits are taken to the device once, or stream there.
        recipe: the optimiser, the schedule and the rest.
        seed: of the order of the data, its augmentation and dropout; initial weights are the
            network's own.
        device: where to train.
        precision: of the forward pass; weights and optimiser stay float32.
        checkpoint: a file to save the state to after every epoch, and every ten minutes of a long
            one, and to go on from.
        on_evaluation: called with each line of the curve, also with those of a checkpoint.

    Returns:
        The curve and the network to use.

    Raises:
        Diverged: the training or validation loss is not finite after some epoch.
        Abandoned: another process, the first, has ended the training.
        ValueError: an unknown precision, a checkpoint of another recipe, seed or precision, a
            batch that can't be shared by the processes, or an augmentation that needs images that
            stream.
    """
    device = torch.device(device)
    train = dataset.train.to(device, channels_last=recipe.channels_last)
    validation = dataset.validation.to(device, channels_last=recipe.channels_last)
    augmentation, batch = check_recipe(recipe, dataset)
    steps = len(train) // batch
    trainee = begin(network, recipe, device, steps, batch)
    curve: list[Evaluation] = []
    origin = {"recipe": recipe.model_dump(), "seed": seed, "precision": precision}
    path = Path(checkpoint) if checkpoint else None
    state = from_first(lambda: load_checkpoint(path)) if path else None
    unfinished: dict[str, Any] = {}
    if state is not None:
        saved = state.get("origin", {})
        if {**saved, "recipe": Recipe(**saved.get("recipe", {})).model_dump()} != origin:
            raise ValueError(f"checkpoint (={path}) must be of the same recipe, seed and precision")
        trainee.restore(state)
        curve, unfinished = state["curve"], state.get("unfinished", {})
        if on_evaluation:
            from_first(lambda: [on_evaluation(line) for line in curve])

    def save(unfinished: dict[str, Any]) -> None:
        if path:
            whole = {"origin": origin, **trainee.state(), "curve": curve, "unfinished": unfinished}
            save_checkpoint(path, whole)

    for epoch in range(len(curve) + 1, recipe.epochs + 1):
        loss, seconds = _train_epoch(
            *(trainee, train, augmentation, recipe, precision, steps, batch),
            seed=seed * 1_000_003 + epoch,
            unfinished=unfinished,
            save=save if path else None,
        )
        unfinished = {}
        if recipe.precise_bn:
            with seeded(seed):  # dropout draws numbers here too
                n = min(max(recipe.precise_bn, batch), len(train)) // batch * batch
                own = _share(torch.arange(n).view(-1, batch))
                some = train.batches(batch // count(), own, augmentation, seed)
                renew_statistics(trainee.evaluated, (images for images, _ in some), precision)
            if recipe.batch_norm == "local":
                mean_buffers(trainee.evaluated)
        measured = evaluate(
            trainee.evaluated,
            validation,
            precision=precision,
            class_weights=dataset.class_weights,
            map_at=dataset.map_at,
        )
        line = {
            "epoch": epoch,
            "samples": epoch * steps * batch,
            "lr": float(trainee.schedule.get_last_lr()[0]),
            "train_loss": loss,
            "val_loss": measured.loss,
            "val_top1": measured.top1,
            **({} if measured.map is None else {"val_map": measured.map}),
            "seconds": seconds + (curve[-1]["seconds"] if curve else 0.0),
        }
        for split, value in (("training", loss), ("validation", measured.loss)):
            if not math.isfinite(value):
                raise Diverged(f"{split} loss is {value} in epoch {epoch} of {recipe.epochs}")
        curve.append(line)

        def conclude(line: Evaluation = line) -> None:
            save({})
            if on_evaluation:
                on_evaluation(line)

        from_first(conclude)
    averaged = trainee.averaged
    return Fitted(curve, averaged.module if averaged is not None else trainee.network)


def check_recipe(recipe: Recipe, dataset: Dataset) -> tuple[Augmentation, int]:
    """How images are varied, and how many there are in a batch of all processes.

    Raises:
        ValueError: the recipe doesn't fit the data, or the processes that train.
    """
    augmentation = recipe.augmentation(dataset.train.streams)
    side = min(dataset.shape[1:])
    if recipe.cutout > side:
        raise ValueError(
            f"recipe.cutout (={recipe.cutout}) must be at most {side}, an image's side"
        )
    batch = min(recipe.batch_size, len(dataset.train))
    if batch % count():
        raise ValueError(
            f"recipe.batch_size (={batch}) must be a multiple of {count()}, the processes that "
            "share it"
        )
    return augmentation, batch


def _train_epoch(
    trainee: Trainee,
    train: Examples,
    augmentation: Augmentation,
    recipe: Recipe,
    precision: Precision,
    steps: int,
    batch: int,
    *,
    seed: int,
    unfinished: dict[str, Any],
    save: Callable[[dict[str, Any]], None] | None,
) -> tuple[float, float]:
    """One pass over the data, from where an unfinished one was saved.

    Returns:
        The mean training loss, and the seconds it took.
    """
    device = next(trainee.network.parameters()).device
    trainee.called.train()
    begun, spent = unfinished.get("step", 0), unfinished.get("seconds", 0.0)
    total = unfinished.get("loss", torch.zeros(())).to(device)
    started = saved = time.perf_counter()
    with seeded(seed):
        order = torch.randperm(len(train))[: steps * batch].view(steps, batch)
        if number():
            torch.manual_seed(seed + number() * 1_000_000_007)  # its dropout is its own
        if len(unfinished.get("random", [])) == count():
            restore_random_state(unfinished["random"][number()], device)
        batches = train.batches(batch // count(), _share(order[begun:]), augmentation, seed)
        for step, (images, labels) in enumerate(batches, begun + 1):
            total += trainee.step(images, labels, recipe, precision)
            if save and step < steps and _is_due(step, saved):
                unfinished = {
                    "step": step,
                    "seconds": spent + time.perf_counter() - started,
                    "loss": total,
                    "random": gather(random_state(device)),
                }
                from_first(lambda unfinished=unfinished: save(unfinished))  # type: ignore[misc]
                saved = time.perf_counter()
    mean_over(total)
    if recipe.batch_norm == "local":
        mean_buffers(trainee.network)
        if trainee.averaged is not None:
            mean_buffers(trainee.averaged)
    return total.item() / steps, spent + time.perf_counter() - started


def _share(batches: Tensor) -> Tensor:
    """This process's share of every batch, (steps, batch) -> (steps x batch / processes,)."""
    return batches.chunk(count(), dim=1)[number()].flatten()


def _is_due(step: int, saved: float) -> bool:
    """Whether the state should be saved in the middle of an epoch."""
    if count() > 1 and step % _ASKED_EVERY:
        return False
    return from_first(lambda: time.perf_counter() - saved >= _SAVED_EVERY)
