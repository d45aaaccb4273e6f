"""What ``fit`` does with a batch and at the end of an epoch: the part that a method decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from spectrum.data import Dataset
from spectrum.training.metrics import Metrics, autocast, criterion
from spectrum.training.recipe import Precision, Recipe

_AUXILIARY_WEIGHT = 0.4  # of an auxiliary head's loss, as in Inception V3's own training code


class Batch(NamedTuple):
    """One step's images and labels, and what the step depends on beside them.

    Attributes:
        images: (N, C, H, W).
        labels: as in ``criterion``.
        recipe: how the network is trained.
        precision: of the forward pass.
        seed: of the training.
        step: the number of the step since the training began, from 0.
    """

    images: Tensor
    labels: Tensor
    recipe: Recipe
    precision: Precision
    seed: int
    step: int


class Method(Protocol):
    """How a network is trained on a batch, and what an epoch is judged by."""

    def identify(self, network: nn.Module, dataset: Dataset, recipe: Recipe) -> dict[str, Any]:
        """What identifies a training beside the arguments of ``fit``, as plain values.

        Raises:
            FieldError: the method can't train this network on these data by this recipe.
        """

    def layers(self, network: nn.Module) -> nn.Module:
        """A module with all convolutions that the training executes."""

    def backward(self, network: nn.Module, batch: Batch) -> Tensor:
        """Add the gradients of a batch, and return the loss that the learning curve shows."""

    def validate(self, network: nn.Module, measure: Callable[[], Metrics]) -> Sequence[Metrics]:
        """Call ``measure`` for each network of which the learning curve shows the mean."""


class Plain:
    """The method for a network that is trained as it is."""

    def identify(self, network: nn.Module, dataset: Dataset, recipe: Recipe) -> dict[str, Any]:
        """See ``Method``."""
        return {}

    def layers(self, network: nn.Module) -> nn.Module:
        """See ``Method``."""
        return network

    def backward(self, network: nn.Module, batch: Batch) -> Tensor:
        """See ``Method``."""
        loss = label_loss(forward(network, batch), batch)
        loss.backward()
        return loss.detach()

    def validate(self, network: nn.Module, measure: Callable[[], Metrics]) -> Sequence[Metrics]:
        """See ``Method``."""
        return [measure()]


def forward(network: nn.Module, batch: Batch) -> list[Tensor]:
    """Compute the logits of a batch, (N, K), and those of auxiliary heads; all float32."""
    with autocast(batch.images.device, batch.precision):
        output = network(batch.images)
    return [logits.float() for logits in (output if isinstance(output, tuple) else (output,))]


def label_loss(heads: Sequence[Tensor], batch: Batch) -> Tensor:
    """The loss of the logits of all heads against the labels."""
    losses = [criterion(logits, batch.labels, batch.recipe.label_smoothing) for logits in heads]
    return losses[0] + _AUXILIARY_WEIGHT * sum(losses[1:])
