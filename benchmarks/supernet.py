"""What a step that trains a supernet costs: its time and its memory beside plain networks.

    python benchmarks/supernet.py

The time is that of a step divided by the sum of the steps of its networks, each alone; both take
turns. The memory is what the weights and the first step need, divided by the same of the dense
network at the largest width.
"""

from __future__ import annotations

import time
from statistics import median

import torch
from torch import nn

from spectrum import NetworkConfig, Recipe, Sandwich, Supernet, build
from spectrum.costs.memory import max_memory_allocated
from spectrum.layers.acceleration import compile_kernels
from spectrum.machine import keep_freed_memory
from spectrum.training.method import Batch, Method, Plain
from spectrum.training.state import TrainState, init_train_state

SEGMENTS, WIDTHS = (1, 4, "C/4", "C"), (0.5, 0.75, 1.0)
CASES = (("tiny", 8, 32), ("tiny", 14, 64), ("vgg_small", 14, 64))
STEPS, REPEATS = 4, 7
RECIPE = Recipe(precise_bn=1)
CPU = torch.device("cpu")


def state_of(network: nn.Module) -> TrainState:
    """A training that hasn't begun, with its kernels compiled."""
    state = init_train_state(network.train(), RECIPE, CPU, steps=1000, batch=32)
    state.parallel_network.train()
    return state


def seconds(state: TrainState, method: Method, batch: Batch) -> float:
    """The time of a step."""
    start = time.perf_counter()
    state.step(method, batch)
    return time.perf_counter() - start


def time_ratio(network: Supernet, batches: list[Batch]) -> tuple[float, float]:
    """The seconds of the supernet's steps, and the sum of those of their networks alone."""
    method, plain = Sandwich(), Plain()
    compile_kernels(method.layers(network), torch.float32, RECIPE.channels_last)
    members = [method.networks(network, batch.seed, batch.step) for batch in batches]
    alone = [[state_of(network.extract(list(s), w)) for s, w in step] for step in members]
    shared = state_of(network)
    together = separate = 0.0
    for batch, states in zip(batches, alone, strict=True):
        times: list[tuple[float, float]] = []
        for _ in range(REPEATS):
            one = seconds(shared, method, batch)
            times.append((one, sum(seconds(state, plain, batch) for state in states)))
        together += median(one for one, _ in times)
        separate += median(sum_ for _, sum_ in times)
    return together, separate


def memory(network: nn.Module, method: Method, batch: Batch) -> int:
    """The bytes of the weights, and the most that the first step needs at once."""
    state = state_of(network)
    weights = sum(tensor.nbytes for tensor in network.state_dict().values())
    return weights + max_memory_allocated(lambda: state.step(method, batch), CPU)


def main() -> None:
    """Print both ratios for each case."""
    torch.set_num_threads(1)
    keep_freed_memory()
    print("one thread, candidates 1, 4, C/4, C, widths 0.5, 0.75, 1, four networks in a step")
    print("network            images  batch  step ms  alone ms  time    step MB  dense MB  memory")
    for name, side, n in CASES:
        config = NetworkConfig(name=name, num_classes=10, in_channels=1)
        images = torch.randn(n, 1, side, side).to(memory_format=torch.channels_last)
        labels = torch.randint(10, (n,))
        batches = [Batch(images, labels, RECIPE, "float32", 0, step) for step in range(STEPS)]
        ours, alone = time_ratio(Supernet(config, SEGMENTS, WIDTHS), batches)
        dense = build(config.model_copy(update={"segments": "1"}))
        needed = memory(Supernet(config, SEGMENTS, WIDTHS), Sandwich(), batches[0])
        dense_needed = memory(dense, Plain(), batches[0])
        print(
            f"{name:18} {side:3}x{side:<3} {n:5} {1000 * ours / STEPS:8.1f}"
            f" {1000 * alone / STEPS:9.1f} {ours / alone:5.2f} {needed / 1e6:10.1f}"
            f" {dense_needed / 1e6:9.1f} {needed / dense_needed:7.2f}"
        )


if __name__ == "__main__":
    main()
