"""Compiling kernels before a training begins, so that none is compiled within its time."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import torch
from torch import nn

from spectrum.kernels.availability import KernelMissing
from spectrum.kernels.convolution import compile_convolution
from spectrum.kernels.eligibility import TYPES, can_run_kernels
from spectrum.kernels.geometry import geometry_of
from spectrum.kernels.plan_costs import INTEL, cpu_kind, is_measured
from spectrum.kernels.plans import can_have_kernel
from spectrum.kernels.stored_plans import stored_plans


def compile_kernels(convs: Iterable[nn.Conv2d], dtype: torch.dtype, last: bool) -> None:
    """Compile the kernels that a network may use on this CPU.

    Where one can't be compiled, torch's operators run from then on.

    Args:
        convs: the segmented convolutions of the network.
        dtype: the type that they compute in.
        last: whether images are channels_last.
    """
    expects_kernels = is_measured(cpu_kind()) or "kernel" in stored_plans().values()
    if not (expects_kernels and dtype in TYPES and can_run_kernels()):
        return
    with suppress(KernelMissing):
        for conv in convs:
            if can_have_kernel(conv):
                compile_convolution(conv.weight, geometry_of(conv), dtype, last)
        if cpu_kind() == INTEL and last:
            from spectrum.kernels.norm import compile_all

            compile_all(dtype)
