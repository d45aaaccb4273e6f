"""Whether a module may be executed in another way than by calling it."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from spectrum.kernels.availability import give_up, has_given_up

TYPES = {torch.float32, torch.bfloat16}
"""The types that kernels compute in. Others, such as float64 under autocast, are torch's."""


def can_use_kernel(module: nn.Module, kind: type[nn.Module], x: Tensor) -> bool:
    """Whether a module may be executed by a kernel: a plain call on the CPU, in one of ``TYPES``.

    Args:
        module: the module.
        kind: the class that the module must have; a subclass doesn't count.
        x: the input, (N, C, H, W).
    """
    return is_plain_call(module, kind, x) and x.is_cpu and {x.dtype, autocast_type(x)} <= TYPES


def is_plain_call(module: nn.Module, kind: type[nn.Module], x: Tensor) -> bool:
    """Whether a module is called in a plain way, with a plain tensor.

    The answer is no wherever something must see the module itself or torch's operators: tracing,
    compiling, export, operator counts, function transforms, hooks, subclasses of module or tensor.

    Args:
        module: the module.
        kind: the class that the module must have; a subclass doesn't count.
        x: the input, (N, C, H, W).
    """
    return (
        not torch.compiler.is_compiling()
        and type(module) is kind
        and type(x) is Tensor
        and x.dim() == 4
        and not (
            module._forward_hooks
            or module._forward_pre_hooks
            or module._backward_hooks
            or module._backward_pre_hooks
        )
        and torch._C._get_tracing_state() is None  # while tracing, sizes are tensors
        and x.numel() > 0
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._len_torch_function_stack()
        and torch._C._functorch.peek_interpreter_stack() is None
        and torch.autograd.forward_ad._current_level < 0
    )


def can_run_kernels() -> bool:
    """Whether Numba can be imported, and has compiled every kernel so far."""
    return _can_import() and not has_given_up()


@cache
def _can_import() -> bool:
    try:
        from spectrum.kernels import depthwise, norm, segments  # noqa: F401
    except Exception as error:  # a broken Numba may raise anything
        give_up(error)
        return False
    return True


def autocast_type(x: Tensor) -> torch.dtype:
    """The type in which a convolution of ``x``, on a CPU or a GPU, computes: autocast's if on."""
    device = "cpu" if x.is_cpu else x.device.type  # the type of a device takes longer to ask for
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def type_and_layout(x: Tensor) -> tuple[str, str]:
    """The names of the type that a convolution of ``x`` computes in, and of its memory layout."""
    precision = str(autocast_type(x)).removeprefix("torch.")
    return precision, "channels_last" if channels_last(x) else "contiguous"


def channels_last(x: Tensor) -> bool | None:
    """Whether images lie in memory as channels_last; None where they have neither layout."""
    if x.shape[1] > 1 and x.is_contiguous(memory_format=torch.channels_last):
        return True
    return False if x.is_contiguous() else None
