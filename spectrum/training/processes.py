"""One training on several processes, as ``torchrun`` starts them; alone, all of it is idle.

Every process has the same network and its own share of each batch; gradients are averaged. What
is read and written is the first process's. The others hear of what it read, and of its failures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

__all__ = [
    "Abandoned",
    "BatchNormOfAll",
    "announce",
    "count",
    "from_first",
    "gather",
    "gather_rows",
    "hear",
    "in_parallel",
    "mean_buffers",
    "mean_over",
    "number",
]

_T = TypeVar("_T")


class Abandoned(RuntimeError):
    """The first process has ended what this one has a share in."""


def count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def number() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def from_first(call: Callable[[], _T]) -> _T:
    """What ``call`` gives in the first process, in all of them.

    Raises:
        Abandoned: it has raised an exception there, where that is raised itself.
    """
    if count() == 1:
        return call()
    told: list[tuple[bool, _T | None]] = [(False, None)]
    try:
        if number() == 0:
            told = [(True, call())]
    finally:
        dist.broadcast_object_list(told, src=0)
    done, value = told[0]
    if not done:
        raise Abandoned("the first process has ended this run")
    return value  # type: ignore[return-value]


def announce(value: object) -> None:
    """Tell the other processes something, from the first."""
    if count() > 1:
        dist.broadcast_object_list([value], src=0)


def hear() -> Any:
    """What the first process announces next."""
    told: list[Any] = [None]
    dist.broadcast_object_list(told, src=0)
    return told[0]


def gather(value: _T) -> list[_T]:
    """The values of all processes, in every one of them."""
    if count() == 1:
        return [value]
    values: list[_T] = [value] * count()
    dist.all_gather_object(values, value)
    return values


def gather_rows(rows: Tensor, total: int) -> Tensor:
    """The rows of all processes, of which each has every ``count()``-th.

    Args:
        rows: (n, …), those from ``number()`` on.
        total: how many there are in all.

    Returns:
        (total, …).
    """
    if count() == 1:
        return rows
    most = -(-total // count())
    padded = torch.cat([rows, rows.new_zeros(most - len(rows), *rows.shape[1:])])
    parts = [torch.empty_like(padded) for _ in range(count())]
    dist.all_gather(parts, padded)
    return torch.stack(parts, dim=1).flatten(0, 1)[:total]


def mean_over(values: Tensor) -> Tensor:
    """The mean over all processes, in place."""
    if count() > 1:
        dist.all_reduce(values)
        values /= count()
    return values


def mean_buffers(network: nn.Module) -> None:
    """Give all processes the mean of their buffers: of statistics that each has kept of its own."""
    for buffer in network.buffers():
        if buffer.is_floating_point():
            mean_over(buffer)


def in_parallel(network: nn.Module, *, synchronised: bool) -> tuple[nn.Module, nn.Module]:
    """A network to be trained by all processes.

    Args:
        network: the same in all of them.
        synchronised: whether batch normalisation's statistics are over the images of all
            processes; else each has those of its own.

    Returns:
        The network that is trained, whose weights and buffers are called as they were, and what
        is called in its stead, which averages the gradients.
    """
    if count() == 1:
        return network, network
    device = next(network.parameters()).device
    if synchronised:
        network = _synchronised(network, device)
    parallel = DistributedDataParallel(
        network,
        device_ids=[device] if device.type == "cuda" else None,
        static_graph=True,  # a user's model may have weights that take no part
    )
    return network, parallel


def _synchronised(network: nn.Module, device: torch.device) -> nn.Module:
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-any-return]
    for name, module in list(network.named_modules()):
        if type(module) is nn.BatchNorm2d:
            together = BatchNormOfAll(
                module.num_features,
                module.eps,
                module.momentum,
                module.affine,
                module.track_running_stats,
            )
            together.load_state_dict(module.state_dict())
            network.set_submodule(name, together.train(module.training))
    return network


class BatchNormOfAll(nn.BatchNorm2d):
    """Batch normalisation over the images of all processes, of which each has as many.

    It is ``nn.SyncBatchNorm``, which needs a GPU, for the CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x``, (N, C, H, W)."""
        if not self.training or count() == 1:
            return super().forward(x)
        mean = _mean_of_all(x.float().mean((0, 2, 3)))  # (C,)
        centred = x.float() - mean[:, None, None]
        variance = _mean_of_all(centred.square().mean((0, 2, 3)))
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            n = count() * x.numel() // x.shape[1]
            with torch.no_grad():
                self.num_batches_tracked += 1
                momentum = self.momentum
                if momentum is None:
                    momentum = 1 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * n / (n - 1), momentum)
        normalised = centred * (variance + self.eps).rsqrt()[:, None, None]
        if self.affine:
            normalised = normalised * self.weight[:, None, None] + self.bias[:, None, None]
        result: Tensor = normalised.to(x.dtype)
        return result


class _MeanOfAll(torch.autograd.Function):
    """The mean over all processes, in whose losses each one's values have a part."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return mean_over(values.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return mean_over(gradients[0].clone())


def _mean_of_all(values: Tensor) -> Tensor:
    result: Tensor = _MeanOfAll.apply(values)  # type: ignore[no-untyped-call]
    return result
