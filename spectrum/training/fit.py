"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import nn

from spectrum.data import Augmentation, Dataset, Examples
from spectrum.errors import FieldError, as_text
from spectrum.files import as_path
from spectrum.layers.acceleration import check_plans, compile_kernels, keep_plans
from spectrum.training.checkpoint import load_checkpoint, save_checkpoint
from spectrum.training.curve import Evaluation, check_curve
from spectrum.training.distributed import (
    all_gather,
    all_reduce_mean,
    average_buffers,
    on_rank_zero,
    own_share,
    rank,
    world_size,
)
from spectrum.training.method import Batch, Method, Plain
from spectrum.training.metrics import Metrics, evaluate
from spectrum.training.precise_bn import recompute_batch_norm
from spectrum.training.recipe import Precision, Recipe
from spectrum.training.seeding import get_random_state, seeded, set_random_state
from spectrum.training.state import TrainState, init_train_state

_SAVE_EVERY = 600.0  # seconds between checkpoints within an epoch
_CHECK_EVERY = 50  # steps after which several processes agree whether to save


class Diverged(RuntimeError):
    """The loss is no longer a finite number."""


class CheckpointMismatch(FieldError):
    """A checkpoint can be read, but isn't one of this training."""


class FitResult(NamedTuple):
    """The result of ``fit``.

    Attributes:
        curve: the learning curve: an evaluation on the validation split after every epoch.
        network: the network to use: a copy with the averaged weights, or the trained network
            itself if the recipe has no average.
    """

    curve: list[Evaluation]
    network: nn.Module


_DEFAULT = Recipe()
_PLAIN = Plain()


def fit(
    network: nn.Module,
    dataset: Dataset,
    recipe: Recipe = _DEFAULT,
    seed: int = 0,
    device: str | torch.device = "cpu",
    *,
    precision: Precision = "float32",
    checkpoint: Path | str | None = None,
    identity: str = "",
    on_evaluation: Callable[[Evaluation], None] | None = None,
    method: Method = _PLAIN,
) -> FitResult:
    """Train a classifier on the training split; the test split is never read.

    The order of the data and the random numbers of an epoch follow from ``seed`` and the epoch
    alone, and layers are executed by the plans that the training began with. So a run that is
    resumed from its checkpoint ends with the same weights as one that was never stopped. torch's
    own random state is left as it was.

    If ``torch.distributed`` is initialised, its processes train together, each on its share of
    every batch. The result is that of one process, except for rounding and for dropout, which
    each process draws for itself. All processes must call this function with the same arguments.
    Only rank zero reads and writes ``checkpoint`` and calls ``on_evaluation``.

    The network that was passed in is trained in place: at the end it is on ``device``, in training
    mode, and has the weights of the last step. If the recipe averages weights, as all recipes do by
    default, the network that is returned is another module: a copy with the averaged weights, which
    is in the mode (training or evaluation) that the one passed in had before. If
    ``recipe.average`` is 0, it is the one that was passed in. ``evaluate`` and the learning curve
    use evaluation mode and restore each module's own; call ``.eval()`` before any other inference.

    Args:
        network: maps images (N, C, H, W) to logits (N, classes). In training mode it may return a
            tuple, the main logits and those of auxiliary heads. If several processes train, its
            batch normalisation layers may be replaced by ones that share their statistics.
        dataset: the data; its splits move to the device, or are streamed to it.
        recipe: the optimiser, the schedule and the rest.
        seed: of the order of the data, the augmentation and dropout. Initial weights are the
            network's own.
        device: where to train.
        precision: of the forward pass; weights and optimiser stay float32.
        checkpoint: a file to resume from. The state is saved to it after every epoch, and every
            ten minutes within an epoch.
        identity: names what is trained, such as the id of a run. A checkpoint of another identity
            isn't continued.
        on_evaluation: called with each line of the learning curve, those of the checkpoint
            included.
        method: what a step and an evaluation do; ``Sandwich`` trains a ``Supernet`` so that each
            of its networks can be used.

    Returns:
        The learning curve and the network to use, as said above.

    Raises:
        Diverged: the training or validation loss is not finite after an epoch.
        RankZeroFailed: rank zero has ended the run; the other processes raise this.
        CheckpointMismatch: the checkpoint is of another network, recipe, seed, precision, method
            or identity.
        ValueError: the precision is unknown, the processes can't share a batch evenly, the
            augmentation needs images that are streamed, or the method can't train the network.
    """
    device = torch.device(device)
    train = dataset.train.to(device, channels_last=recipe.channels_last)
    validation = dataset.validation.to(device, channels_last=recipe.channels_last)
    augmentation, batch = check_recipe(recipe, dataset)
    steps = len(train) // batch
    origin = {
        "identity": identity,
        "recipe": recipe.model_dump(),
        "seed": seed,
        "precision": precision,
        **method.identify(network, dataset, recipe),
    }
    state = init_train_state(network, recipe, device, steps, batch)
    curve: list[Evaluation] = []
    path = as_path(checkpoint) if checkpoint else None
    saved = on_rank_zero(lambda: load_checkpoint(path)) if path else None
    partial_epoch: dict[str, Any] = {}
    plans: dict[str, Any] = {}
    if saved is not None:
        try:
            curve, partial_epoch, plans = _restore(state, saved, origin, steps)
        except Exception as error:  # a state of something else can raise any exception
            reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
            raise CheckpointMismatch(
                "checkpoint", path, f"must be of the same training: {reason}"
            ) from error
        if on_evaluation:
            on_rank_zero(lambda: [on_evaluation(line) for line in curve])

    def save(partial_epoch: dict[str, Any]) -> None:
        if path:
            progress = {"curve": curve, "unfinished": partial_epoch}
            parts = {"origin": origin, "plans": plans, **state.state_dict(), **progress}
            save_checkpoint(path, parts)

    def measure() -> Metrics:
        if recipe.precise_bn:
            # Averaged running statistics aren't the statistics of the averaged weights.
            recompute_batch_norm(
                state.eval_network, train, augmentation, recipe, batch, precision, seed
            )
        return evaluate(
            state.eval_network,
            validation,
            precision=precision,
            class_weights=dataset.class_weights,
            map_at=dataset.map_at,
        )

    if device.type == "cpu":
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        # Not within the first epoch's time.
        compile_kernels(method.layers(network), dtype, recipe.channels_last)
    with keep_plans(plans) as plans:
        for epoch in range(len(curve) + 1, recipe.epochs + 1):
            loss, seconds = _train_epoch(
                state,
                train,
                augmentation,
                recipe,
                precision,
                steps,
                batch,
                method,
                seed=seed,
                epoch=epoch,
                partial_epoch=partial_epoch,
                save=save if path else None,
            )
            partial_epoch = {}
            judged = method.validate(state.eval_network, measure)
            val_loss = fmean(metrics.loss for metrics in judged)
            maps = [metrics.map for metrics in judged if metrics.map is not None]
            line = {
                "epoch": epoch,
                "samples": epoch * steps * batch,
                "lr": float(state.schedule.get_last_lr()[0]),
                "train_loss": loss,
                "val_loss": val_loss,
                "val_top1": fmean(metrics.top1 for metrics in judged),
                **({"val_map": fmean(maps)} if maps else {}),
                "seconds": seconds + (curve[-1]["seconds"] if curve else 0.0),
            }
            for split, value in (("training", loss), ("validation", val_loss)):
                if not math.isfinite(value):
                    raise Diverged(f"{split} loss is {value} in epoch {epoch} of {recipe.epochs}")
            curve.append(line)

            def finish_epoch(line: Evaluation = line) -> None:
                save({})
                if on_evaluation:
                    on_evaluation(line)

            on_rank_zero(finish_epoch)
    return FitResult(curve, state.eval_network)


def _restore(
    state: TrainState, saved: dict[str, Any], origin: dict[str, Any], steps: int
) -> tuple[list[Evaluation], dict[str, Any], dict[str, Any]]:
    """Restore the state of a checkpoint.

    Returns:
        The learning curve, the unfinished epoch, and the plans by which layers were executed.
    """
    saved_origin = saved["origin"]
    recipe = Recipe(**saved_origin["recipe"]).model_dump()  # with fields added since
    found, expected = {**saved_origin, **recipe}, {**origin, **origin["recipe"]}
    for field in {**expected, **found}:
        if field != "recipe" and found.get(field) != expected.get(field):
            raise FieldError(field, found.get(field), f"must be {as_text(expected.get(field))}")
    curve, unfinished = saved["curve"], saved["unfinished"]
    check_curve(curve)
    if len(curve) > origin["recipe"]["epochs"]:
        raise FieldError("epochs", len(curve), f"must be at most {origin['recipe']['epochs']}")
    if unfinished and not (0 < unfinished["step"] < steps and unfinished["seconds"] >= 0):
        raise FieldError("step", unfinished["step"], f"must be in 1..{steps - 1}")
    plans = check_plans(saved.get("plans", {}))  # earlier checkpoints have none
    state.load_state_dict(saved)
    return curve, unfinished, plans


def check_recipe(recipe: Recipe, dataset: Dataset) -> tuple[Augmentation, int]:
    """Check that a recipe fits the data and the processes that train.

    Returns:
        The augmentation of the training images, and the batch size over all processes.

    Raises:
        ValueError: the recipe doesn't fit.
    """
    augmentation = recipe.augmentation(dataset.train.is_streamed)
    side = min(dataset.shape[1:])
    if recipe.cutout > side:
        raise FieldError("recipe.cutout", recipe.cutout, f"must be at most {side}, an image's side")
    batch = min(recipe.batch_size, len(dataset.train))
    if batch % world_size():
        raise FieldError(
            "recipe.batch_size",
            batch,
            f"must be a multiple of {world_size()}, the processes that share it",
        )
    return augmentation, batch


def _train_epoch(
    state: TrainState,
    train: Examples,
    augmentation: Augmentation,
    recipe: Recipe,
    precision: Precision,
    steps: int,
    batch: int,
    method: Method,
    *,
    seed: int,
    epoch: int,
    partial_epoch: dict[str, Any],
    save: Callable[[dict[str, Any]], None] | None,
) -> tuple[float, float]:
    """Train for one epoch, or for the rest of one that was saved within it.

    Args:
        state: what is trained.
        train: the training split.
        augmentation: how its images are varied.
        recipe: how to train.
        precision: of the forward pass.
        steps: batches per epoch.
        batch: images per batch, over all processes.
        method: what a step does.
        seed: of the training.
        epoch: the number of the epoch, from 1.
        partial_epoch: what ``save`` was given within this epoch; empty to start at its beginning.
        save: saves the progress within the epoch to the checkpoint; None if there is none.

    Returns:
        The mean training loss, and the seconds that the whole epoch took.
    """
    device = next(state.network.parameters()).device
    state.parallel_network.train()
    first_step, spent = partial_epoch.get("step", 0), partial_epoch.get("seconds", 0.0)
    total_loss = partial_epoch.get("loss", torch.zeros(())).to(device)
    started = last_saved = time.perf_counter()
    epoch_seed = seed * 1_000_003 + epoch
    with seeded(epoch_seed):
        order = torch.randperm(len(train))[: steps * batch].view(steps, batch)
        if rank():
            torch.manual_seed(epoch_seed + rank() * 1_000_000_007)  # for dropout of its own
        if len(partial_epoch.get("random", [])) == world_size():
            set_random_state(partial_epoch["random"][rank()], device)
        own = own_share(order[first_step:])
        batches = train.batches(batch // world_size(), own, augmentation, epoch_seed)
        for step, (images, labels) in enumerate(batches, first_step + 1):
            number = (epoch - 1) * steps + step - 1
            total_loss += state.step(method, Batch(images, labels, recipe, precision, seed, number))
            if save and step < steps and _should_save(step, last_saved):
                progress = {
                    "step": step,
                    "seconds": spent + time.perf_counter() - started,
                    "loss": total_loss,
                    "random": all_gather(get_random_state(device)),
                }
                on_rank_zero(lambda progress=progress: save(progress))  # type: ignore[misc]
                last_saved = time.perf_counter()
    all_reduce_mean(total_loss)
    if recipe.batch_norm == "local":
        average_buffers(state.network)
        if state.averaged is not None:
            average_buffers(state.averaged)
    return total_loss.item() / steps, spent + time.perf_counter() - started


def _should_save(step: int, last_saved: float) -> bool:
    """Whether the state should be saved now, within an epoch."""
    if world_size() > 1 and step % _CHECK_EVERY:
        return False
    return on_rank_zero(lambda: time.perf_counter() - last_saved >= _SAVE_EVERY)
