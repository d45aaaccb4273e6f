"""What a step that trains a supernet costs: its time and its memory beside plain networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn

from spectrum.bench.config import SupernetBenchConfig
from spectrum.bench.machine import name_batch_if_memory_runs_out
from spectrum.bench.summary import interval_columns
from spectrum.costs.memory import max_memory_allocated
from spectrum.costs.timing import ratio, time_interleaved
from spectrum.layers.acceleration import compile_kernels
from spectrum.networks import NetworkConfig, Supernet, build
from spectrum.runs.sandwich import Sandwich
from spectrum.training import Recipe
from spectrum.training.method import Batch, Method, Plain
from spectrum.training.seeding import seeded
from spectrum.training.state import TrainState, init_train_state

STEPS = 4  # that are timed as one, since each draws networks of its own
RECIPE = Recipe(precise_bn=1)


def bench_supernet(name: str, bench: SupernetBenchConfig) -> dict[str, Any]:
    """Time the steps of a supernet and those of its networks, each alone, in turns.

    Args:
        name: the name of the network.
        bench: how it is timed.

    Returns:
        A row: ``network, batch``; ``step_ms``, a step of the supernet; ``alone_ms``, the sum of the
        steps of its networks; ``ratio`` of the two with its 95% interval; ``step_memory`` and
        ``dense_memory`` (bytes), what the weights and the first step need, of the supernet and of
        the dense network at the largest width; and ``memory_ratio``.

    Raises:
        FieldError: the network can't be built, has no such widths, or doesn't fit in memory.
    """
    shape, device = bench.shape, torch.device(bench.device)
    config = NetworkConfig.checked(
        {"name": name, "num_classes": bench.classes, "in_channels": shape[0]}
    )
    with seeded(0), name_batch_if_memory_runs_out(bench.batch):
        network = Supernet(config, bench.segments, bench.widths).to(device)
        images = torch.randn(bench.batch, *shape, device=device)
        images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.randint(bench.classes, (bench.batch,), device=device)
        batches = [Batch(images, labels, RECIPE, "float32", 0, step) for step in range(STEPS)]
        method = Sandwich(bench.members)
        dense = build(
            config.model_copy(
                update={"segments": str(network.segments[0]), "width": network.widths[0]}
            )
        ).to(device)
        dense_memory = _memory(dense, Plain(), batches[0])
        memory = _memory(network, method, batches[0])
        compile_kernels(method.layers(network), torch.float32, RECIPE.channels_last)
        alone = [_alone(network, method, batch) for batch in batches]
        calls = {"shared": _steps(network, method, batches), "alone": _all(alone)}
        timed = time_interleaved(calls, seconds=bench.seconds, device=bench.device)
    compared = ratio(timed["shared"], timed["alone"])
    return {
        "network": name,
        "batch": bench.batch,
        "step_ms": 1000 * timed["shared"].median / STEPS,
        "alone_ms": 1000 * timed["alone"].median / STEPS,
        **interval_columns("ratio", compared.median, compared.interval),
        "step_memory": memory,
        "dense_memory": dense_memory,
        "memory_ratio": memory / dense_memory,
    }


def bench_supernets(names: Sequence[str], bench: SupernetBenchConfig) -> pd.DataFrame:
    """One row of ``bench_supernet`` per network."""
    return pd.DataFrame([bench_supernet(name, bench) for name in names])


def _state(network: nn.Module, batch: Batch) -> TrainState:
    """A training that hasn't begun."""
    device, n = batch.images.device, len(batch.images)
    state = init_train_state(network.train(), RECIPE, device, steps=1000, batch=n)
    state.parallel_network.train()
    return state


def _steps(network: nn.Module, method: Method, batches: list[Batch]) -> Callable[[], object]:
    """A call that makes a step with each batch."""
    state = _state(network, batches[0])
    return lambda: [state.step(method, batch) for batch in batches]


def _alone(network: Supernet, method: Sandwich, batch: Batch) -> Callable[[], object]:
    """A call that makes a step with each network of a supernet's step, as a plain network."""
    members = method.networks(network, batch.seed, batch.step, batch.images.shape[1:])
    return _all([_steps(network.extract(*member), Plain(), [batch]) for member in members])


def _all(calls: list[Callable[[], object]]) -> Callable[[], object]:
    return lambda: [call() for call in calls]


def _memory(network: nn.Module, method: Method, batch: Batch) -> int:
    """The bytes of the weights, and the most that the first step needs at once."""
    state = _state(network, batch)
    weights: int = sum(tensor.nbytes for tensor in network.state_dict().values())
    needed = max_memory_allocated(lambda: state.step(method, batch), batch.images.device)
    return weights + needed
