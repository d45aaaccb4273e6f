"""Random numbers that follow from a seed and leave no trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["random_state", "restore_random_state", "seeded"]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's random numbers on every device, and give their state back at the end."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def random_state(device: torch.device) -> list[Tensor]:
    """The state of the random numbers of the CPU, and of a device that has its own."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def restore_random_state(states: list[Tensor], device: torch.device) -> None:
    """Go back to what ``random_state`` gave; of a device of another kind, the CPU's alone."""
    torch.set_rng_state(states[0])
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)
