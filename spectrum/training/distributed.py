"""Trains one network on several processes, which ``torchrun`` has started.

Every process has a copy of the network and its own share of each batch; gradients are averaged.
Only rank zero reads and writes files. It broadcasts what it has read, and that it has failed. If a
process trains alone, these functions don't communicate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

_T = TypeVar("_T")


class RankZeroFailed(RuntimeError):
    """Rank zero has ended the run that this process takes part in."""


def world_size() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this process among those that train together, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def on_rank_zero(call: Callable[[], _T]) -> _T:
    """Call ``call`` on rank zero and return its value on all ranks.

    Raises:
        RankZeroFailed: ``call`` has raised an exception; rank zero itself raises that exception.
    """
    if world_size() == 1:
        return call()
    outcome: tuple[bool, _T | None] = (False, None)
    try:
        if rank() == 0:
            outcome = (True, call())
    finally:
        succeeded, value = broadcast(outcome)
    if not succeeded:
        raise RankZeroFailed("rank zero has ended this run")
    return value  # type: ignore[no-any-return]


def broadcast(value: Any = None) -> Any:
    """Return on every rank the value that rank zero was given; the other ranks wait for it."""
    message = [value]
    if world_size() > 1:
        dist.broadcast_object_list(message, src=0)
    return message[0]


def all_gather(value: _T) -> list[_T]:
    """Gather the values of all ranks, on every rank."""
    if world_size() == 1:
        return [value]
    values: list[_T] = [value] * world_size()
    dist.all_gather_object(values, value)
    return values


def own_share(batches: Tensor) -> Tensor:
    """This process's share of every batch: (steps, batch) to (n,)."""
    return batches.chunk(world_size(), dim=1)[rank()].flatten()


def all_gather_rows(rows: Tensor, total: int) -> Tensor:
    """Gather the rows of a tensor from all ranks, on every rank.

    Args:
        rows: (n, …), this rank's rows: those numbered ``rank()``, ``rank() + world_size()`` and so
            on.
        total: the number of rows of all ranks.

    Returns:
        All rows in order, (total, …).
    """
    if world_size() == 1:
        return rows
    most = -(-total // world_size())
    padded = torch.cat([rows, rows.new_zeros(most - len(rows), *rows.shape[1:])])
    gathered = [torch.empty_like(padded) for _ in range(world_size())]
    dist.all_gather(gathered, padded)
    return torch.stack(gathered, dim=1).flatten(0, 1)[:total]


def all_reduce_mean(values: Tensor) -> Tensor:
    """Replace values by their mean over all ranks, in place, and return them."""
    if world_size() > 1:
        dist.all_reduce(values)
        values /= world_size()
    return values


def average_buffers(network: nn.Module) -> None:
    """Replace a network's buffers, such as running statistics, by their mean over all ranks."""
    for buffer in network.buffers():
        if buffer.is_floating_point():
            all_reduce_mean(buffer)


def parallelize(network: nn.Module, *, synchronised: bool) -> tuple[nn.Module, nn.Module]:
    """Prepare a network to be trained by all ranks.

    Args:
        network: the network, with the same weights on every rank.
        synchronised: whether batch normalisation computes its statistics over the images of all
            ranks; otherwise each rank computes its own.

    Returns:
        The network whose weights are trained, with the names of its state dict unchanged, and the
        module to call in training, which averages the gradients. Both are ``network`` itself if
        there is one process.
    """
    if world_size() == 1:
        return network, network
    device = next(network.parameters()).device
    if synchronised:
        network = _synchronise_batch_norm(network, device)
    parallel = DistributedDataParallel(
        network,
        device_ids=[device] if device.type == "cuda" else None,
        static_graph=True,  # a user's model may have weights that its output doesn't depend on
    )
    return network, parallel


def _synchronise_batch_norm(network: nn.Module, device: torch.device) -> nn.Module:
    """Replace batch normalisation layers by layers that share their statistics.

    A layer whose attribute ``relu`` is True, such as ``spectrum.layers.BatchNormReLU``, applies a
    ReLU to its output. Its replacement gets a forward hook that does the same.
    """
    norms = {
        name: module
        for name, module in network.named_modules()
        if type(module) is nn.BatchNorm2d or _has_relu_attribute(module)
    }
    if device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    else:
        for name, norm in norms.items():
            network.set_submodule(name, _to_sync_batch_norm(norm))
    for name, norm in norms.items():
        if getattr(norm, "relu", False):
            network.get_submodule(name).register_forward_hook(_apply_relu)
    return network


def _has_relu_attribute(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d) and isinstance(getattr(module, "relu", None), bool)


def _to_sync_batch_norm(norm: nn.BatchNorm2d) -> SyncBatchNorm:
    replacement = SyncBatchNorm(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    replacement.load_state_dict(norm.state_dict())
    return replacement.train(norm.training)


def _apply_relu(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return F.relu(output)


class SyncBatchNorm(nn.BatchNorm2d):
    """``nn.SyncBatchNorm``, which needs a GPU, for the CPU.

    It computes its statistics over the images of all ranks, which must have equally many.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` (N, C, H, W)."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        mean = _all_reduce_mean_with_gradient(x.float().mean((0, 2, 3)))  # (C,)
        centered = x.float() - mean[:, None, None]
        variance = _all_reduce_mean_with_gradient(centered.square().mean((0, 2, 3)))
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            n = world_size() * x.numel() // x.shape[1]
            with torch.no_grad():
                self.num_batches_tracked += 1
                momentum = self.momentum
                if momentum is None:
                    momentum = 1 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * n / (n - 1), momentum)
        normalised = centered * (variance + self.eps).rsqrt()[:, None, None]
        if self.affine:
            normalised = normalised * self.weight[:, None, None] + self.bias[:, None, None]
        result: Tensor = normalised.to(x.dtype)
        return result


class _AllReduceMean(torch.autograd.Function):
    """The mean over all ranks. Every rank's loss depends on it, so gradients are averaged too."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return all_reduce_mean(values.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return all_reduce_mean(gradients[0].clone())


def _all_reduce_mean_with_gradient(values: Tensor) -> Tensor:
    result: Tensor = _AllReduceMean.apply(values)  # type: ignore[no-untyped-call]
    return result
