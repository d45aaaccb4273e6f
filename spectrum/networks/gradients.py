"""A check that a converted model computes with its own parameters, and with all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from spectrum.errors import FieldError


def check_gradients(original: nn.Module, changed: nn.Module, example: Any) -> None:
    """Compare which parameters a gradient reaches in a model and in a changed copy of it.

    Statistics of batch normalisation, gradients and torch's random numbers stay as they are.

    Args:
        original: the model.
        changed: a copy of it in which some layers are replaced by layers of the same name.
        example: an input, or a tuple of several, that the model takes.

    Raises:
        FieldError: the model doesn't take the input, or a gradient reaches a parameter of the
            original through the copy, or doesn't reach one of the copy whose counterpart in the
            original it reaches.
    """
    own, new = dict(original.named_parameters()), dict(changed.named_parameters())
    reached = _reached(original, list(own.values()), example)
    known = {name for (name, _), found in zip(own.items(), reached, strict=True) if found}
    found = _reached(changed, [*new.values(), *own.values()], example)
    kind = type(original).__name__
    for name, is_reached in zip(own, found[len(new) :], strict=True):
        if is_reached:
            raise FieldError(
                "module", kind, f"can't be converted: its copy still uses {name} of the original"
            )
    for name, is_reached in zip(new, found, strict=False):
        if not is_reached and _counterpart(name, own) in known:
            raise FieldError(
                "module", kind, f"can't be converted: {name} has no effect in its copy"
            )


def _counterpart(name: str, own: Mapping[str, Tensor]) -> str | None:
    """The parameter of the original that became this one: itself, or the weight of its layer."""
    parts = name.split(".")
    weights = [".".join((*parts[:i], "weight")) for i in reversed(range(len(parts)))]
    return next((known for known in (name, *weights) if known in own), None)


def _reached(module: nn.Module, parameters: Sequence[Tensor], example: Any) -> list[bool]:
    """Whether each of the parameters gets a gradient from the module's outputs."""
    inputs = example if isinstance(example, tuple) else (example,)
    with _unchanged(module), torch.enable_grad():
        try:
            outputs = [y for y in tree_leaves(module(*inputs)) if isinstance(y, Tensor)]
            total = sum(y.double().sum() for y in outputs if y.requires_grad)
        except Exception as error:  # a user's forward raises anything
            shapes = [tuple(x.shape) for x in inputs if isinstance(x, Tensor)]
            reason = f"must be an input that the module takes: {str(error)[:200]}"
            raise FieldError("check", shapes, reason) from error
        trainable = [p for p in parameters if p.requires_grad]
        if not isinstance(total, Tensor) or not trainable:
            return [False] * len(parameters)
        gradients = torch.autograd.grad(total, trainable, allow_unused=True)
        reached = {id(p) for p, g in zip(trainable, gradients, strict=True) if g is not None}
    return [id(p) in reached for p in parameters]


@contextmanager
def _unchanged(module: nn.Module) -> Iterator[None]:
    """Puts back a module's buffers and torch's random numbers at the end."""
    buffers = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    with torch.random.fork_rng():
        yield
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
