"""The machine that is measured, and the settings that measurements share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from spectrum.errors import FieldError, counted
from spectrum.machine import cpu_threads, device_name, is_out_of_memory


def describe_machine(device: str) -> str:
    """One line with the processor or GPU, the number of threads and the version of torch.

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    """
    n, version = torch.get_num_threads(), f"torch {torch.__version__}"
    if torch.device(device).type == "cuda":
        return f"{device_name(device)}, CUDA {torch.version.cuda}, {version}"
    return f"{device_name(device)}, {counted(n, 'thread')}, {version}"


@contextmanager
def benchmark_settings(threads: int | None) -> Iterator[None]:
    """Set the number of CPU threads, and turn TF32 off on a GPU, for a ``with`` block.

    Args:
        threads: CPU threads; None for torch's current number.
    """
    cudnn = torch.backends.cudnn
    with (
        cpu_threads(threads),
        cudnn.flags(
            enabled=True,
            benchmark=cudnn.benchmark,
            deterministic=cudnn.deterministic,
            allow_tf32=False,
        ),
    ):
        yield


@contextmanager
def name_batch_if_memory_runs_out(batch: int) -> Iterator[None]:
    """Raise a FieldError that names the batch if memory runs out in a ``with`` block."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise FieldError("batch", batch, "must be smaller, memory runs out") from error
        raise
