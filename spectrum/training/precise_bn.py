"""Batch normalisation's statistics of weights that are evaluated."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from spectrum.data import Augmentation, Examples
from spectrum.training.distributed import average_buffers, own_share, world_size
from spectrum.training.metrics import autocast
from spectrum.training.recipe import Precision, Recipe
from spectrum.training.seeding import seeded


def recompute_batch_norm(
    network: nn.Module,
    train: Examples,
    augmentation: Augmentation,
    recipe: Recipe,
    batch: int,
    precision: Precision,
    seed: int,
) -> None:
    """Recompute batch normalisation's statistics from the first ``recipe.precise_bn`` images.

    Args:
        network: the network; nothing else of it is changed.
        train: the training split, on the network's device.
        augmentation: how its images are varied.
        recipe: how the network is trained.
        batch: images per batch, over all processes. At least one batch is used, and no part of one.
        precision: of the forward pass.
        seed: of augmentation and dropout.
    """
    device = next(network.parameters()).device
    # Dropout draws random numbers here too.
    with seeded(seed), torch.no_grad(), autocast(device, precision):
        n = min(max(recipe.precise_bn, batch), len(train)) // batch * batch
        own = own_share(torch.arange(n).view(-1, batch))
        batches = train.batches(batch // world_size(), own, augmentation, seed)
        update_bn((images for images, _ in batches), network)
    if recipe.batch_norm == "local":
        average_buffers(network)
