"""Whether a module may be executed in another way than by calling it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["TYPES", "autocast_type", "channels_last", "is_free"]

TYPES = {torch.float32, torch.bfloat16}
"""What there is another way for. Autocast leaves float64 alone, and so must we."""


def is_free(module: nn.Module, kind: type[nn.Module], x: Tensor) -> bool:
    """Whether a module is called plainly, on a plain tensor of the CPU.

    Who traces, counts, compiles or transforms sees the modules themselves, and so do hooks and
    subclasses; what is done then is what torch does.

    Args:
        module: the module.
        kind: what it must be, exactly.
        x: (N, C, H, W), what it is given.
    """
    return (
        not torch.compiler.is_compiling()
        and type(module) is kind
        and type(x) is Tensor
        and x.device.type == "cpu"
        and x.dim() == 4
        and {x.dtype, autocast_type(x)} <= TYPES
        and not (
            module._forward_hooks
            or module._forward_pre_hooks
            or module._backward_hooks
            or module._backward_pre_hooks
        )
        and torch._C._get_tracing_state() is None  # else the sizes of tensors are tensors
        and x.numel() > 0
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._len_torch_function_stack()
        and torch._C._functorch.peek_interpreter_stack() is None
        and torch.autograd.forward_ad._current_level < 0
    )


def autocast_type(x: Tensor) -> torch.dtype:
    """The type that a convolution computes in."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def channels_last(x: Tensor) -> bool | None:
    """Whether images are laid out in channels_last; None where they are in neither layout."""
    if x.shape[1] > 1 and x.is_contiguous(memory_format=torch.channels_last):
        return True
    return False if x.is_contiguous() else None
