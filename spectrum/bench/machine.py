"""The machine that times belong to: its processor or GPU, its threads, the version of torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from spectrum.study.latency import processor

__all__ = ["describe_machine", "on_machine"]


def describe_machine(device: str) -> str:
    """A line that names what was measured on.

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    """
    n, version = torch.get_num_threads(), f"torch {torch.__version__}"
    if torch.device(device).type == "cuda":
        return f"{processor(device)}, CUDA {torch.version.cuda}, {version}"
    return f"{processor(device)}, {n} thread{'s' * (n > 1)}, {version}"


@contextmanager
def on_machine(threads: int | None) -> Iterator[None]:
    """Compute with a number of CPU threads, and on a GPU without rounding float32 to TF32.

    Args:
        threads: of the CPU; None for torch's own number.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    cudnn = torch.backends.cudnn
    try:
        with cudnn.flags(
            enabled=True,
            benchmark=cudnn.benchmark,
            deterministic=cudnn.deterministic,
            allow_tf32=False,
        ):
            yield
    finally:
        torch.set_num_threads(before)
