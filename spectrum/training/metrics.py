"""The loss, and the metrics that say how well a network classifies the examples of a split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.data import Examples
from spectrum.errors import FieldError
from spectrum.training.distributed import all_gather_rows, rank, world_size
from spectrum.training.recipe import PRECISIONS, Precision

_BATCH = 256  # images that are evaluated at a time
_CHUNK_SCORES = 1 << 24  # scores that are ranked at a time: 64 MB


@dataclass(frozen=True)
class Metrics:
    """The metrics of a network on a split.

    Attributes:
        top1: the share of examples whose highest logit is that of their class, or of one of their
            labels if they have several.
        top5: the same for any of the five highest logits (of all, if there are fewer classes).
        loss: the mean cross-entropy without label smoothing; the binary one if examples have
            several labels.
        correct: (N,) bool, on the CPU, whether each example counts in ``top1``.
        map: the mean of ``average_precision``; None if each example has one class.
        average_precision: (N,) float32, on the CPU, the average precision (AP@k) of each example,
            NaN for one without labels; None if each example has one class.
    """

    top1: float
    top5: float
    loss: float
    correct: Tensor
    map: float | None = None
    average_precision: Tensor | None = None


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which a forward pass runs in ``precision``.

    Raises:
        ValueError: the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise FieldError("precision", precision, f"must be one of {', '.join(PRECISIONS)}")
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@torch.no_grad()
def evaluate(
    network: nn.Module,
    split: Examples,
    *,
    precision: Precision = "float32",
    class_weights: Tensor | None = None,
    map_at: int = 100,
) -> Metrics:
    """Evaluate a classifier on a split, in evaluation mode; its modules' modes are restored.

    Processes that train together share the examples, and all of them get the metrics.

    Args:
        network: maps images (N, C, H, W) to logits (N, classes); the split moves to its device.
        split: the examples.
        precision: of the forward pass; the loss is computed in float32.
        class_weights: (classes,), the weights of the classes in the average precision of examples
            with several labels; None for equal weights.
        map_at: k, how many of the highest logits the average precision (AP@k) looks at.

    Raises:
        ValueError: the split is empty, or the precision is unknown.
    """
    if len(split) == 0:
        raise FieldError("split", len(split), "must have at least one example")
    modes = [(module, module.training) for module in network.modules()]
    device = next((p.device for p in network.parameters()), split.labels.device)
    split = split.to(device)
    own = torch.arange(rank(), len(split), world_size()) if world_size() > 1 else None
    logits = []
    network.eval()
    try:
        for images, _ in split.batches(_BATCH, own):
            with autocast(device, precision):
                logits.append(network(images).float())
    finally:
        for module, training in modes:
            module.training = training
    scores = all_gather_rows(torch.cat(logits), len(split))  # (N, classes)
    labels = split.labels
    ranked = scores.topk(min(5, scores.shape[1]), dim=1).indices  # (N, 5)
    if labels.ndim == 2:
        hits = labels.gather(1, ranked)
        weights = None if class_weights is None else class_weights.to(device)
        precisions = average_precision(scores, labels, map_at, weights)
    else:
        hits, precisions = ranked == labels[:, None], None
    return Metrics(
        top1=hits[:, 0].float().mean().item(),
        top5=hits.any(dim=1).float().mean().item(),
        loss=criterion(scores, labels).item(),
        correct=hits[:, 0].cpu(),
        map=None if precisions is None else precisions.nanmean().item(),
        average_precision=None if precisions is None else precisions.float().cpu(),
    )


def criterion(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Compute the mean cross-entropy; for images with several labels, the binary one.

    Args:
        logits: (N, K), float32.
        labels: (N,) int64, or (N, K) bool if an image may have several labels.
        smoothing: the share of the target that is spread over all classes. With several labels,
            the share that is spread over the two answers (label or no label) for each class.
    """
    if labels.ndim == 1:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
    targets = labels.to(logits.dtype) * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, targets)


def average_precision(
    scores: Tensor, targets: Tensor, k: int, weights: Tensor | None = None
) -> Tensor:
    """Compute the average precision of each image's ``k`` highest scores, AP@k.

    Let c_i be the class at rank i, w its weight, rel_i whether it is one of the image's n labels,
    and P@i the share of labels among the first i ranks. AP@k is the sum of w(c_i) rel_i P@i over
    the first k ranks, divided by the sum of the largest min(k, n) weights of the image's labels.
    So it is 1 if the labels come first, the heaviest of them if there are more than k. Of equal
    scores, the one of the earlier class ranks first.

    Its mean over images is the MAP@k of the paper's JFT experiments (arXiv:1610.02357, section
    4.1). The paper says that classes are weighted and gives no formula.

    Args:
        scores: (N, K) float, of N images for K classes.
        targets: (N, K) bool, the labels of each image.
        k: how many ranks count; all of them if there are fewer.
        weights: (K,), of the classes, 0 or more; None for equal weights.

    Returns:
        (N,) float32, in 0..1; NaN for an image without labels, or whose labels all weigh 0.

    Raises:
        ValueError: an argument has another shape or type, ``k`` is less than 1, or a weight is
            negative or not finite.
    """
    _check_arguments(scores, targets, k, weights)
    classes = scores.shape[1]
    class_weights = torch.ones(classes) if weights is None else weights.float()
    class_weights = class_weights.to(scores.device)
    k = min(k, classes)
    ranks = torch.arange(1, k + 1, device=scores.device)
    precisions = []
    rows = max(1, _CHUNK_SCORES // classes)
    for chunk, labels in zip(scores.split(rows), targets.split(rows), strict=True):
        top = _top_classes(chunk, k)  # (n, k)
        hits = labels.gather(1, top)
        gained = (class_weights[top] * hits * hits.cumsum(1) / ranks).sum(1)
        precisions.append(gained / (class_weights * labels).topk(k, dim=1).values.sum(1))
    return torch.cat(precisions).clamp(max=1)  # rounding may exceed 1 a little


def _top_classes(scores: Tensor, k: int) -> Tensor:
    """The classes of the ``k`` highest scores, the highest first, (n, k)."""
    highest, chosen = scores.topk(k, dim=1)
    # topk doesn't say which of equal scores it chooses, nor their order.
    chosen = chosen.sort(dim=1).values
    order = scores.gather(1, chosen).sort(dim=1, descending=True, stable=True).indices
    top = chosen.gather(1, order)
    tied = (scores >= highest[:, -1:]).sum(1) > k
    if tied.any():
        ranked = scores[tied].sort(dim=1, descending=True, stable=True).indices
        top[tied] = ranked[:, :k]
    return top


def _check_arguments(scores: Tensor, targets: Tensor, k: int, weights: Tensor | None) -> None:
    if targets.shape != scores.shape or targets.dtype != torch.bool:
        found = f"{targets.dtype} {tuple(targets.shape)}"
        raise FieldError("targets", found, f"must be bool, {tuple(scores.shape)} as scores are")
    if k < 1:
        raise FieldError("k", k, "must be at least 1")
    if weights is None:
        return
    if weights.shape != scores.shape[1:]:
        allowed = f"must be ({scores.shape[1]},), one per class"
        raise FieldError("weights", tuple(weights.shape), allowed)
    if not bool((weights.isfinite() & (weights >= 0)).all()):
        raise FieldError("weights", weights.tolist(), "must be finite and 0 or more")
