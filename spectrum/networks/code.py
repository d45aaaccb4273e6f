"""A user's own model, named as ``package.module:callable``."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import nn

__all__ = ["call_code", "code_fingerprint", "is_code", "is_code_name", "takes"]


# Where installed packages are, and this one.
_INSTALLED = (str(Path(torch.__file__).parents[1]), str(Path(__file__).parents[1]))


def is_code(name: str) -> bool:
    """Whether the name of a network is a user's, to be imported."""
    return ":" in name


def is_code_name(name: str) -> bool:
    """Whether a name reads ``package.module:callable``."""
    part = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
    return re.fullmatch(f"{part}:{part}", name) is not None


def takes(name: str, argument: str) -> bool:
    """Whether the callable takes an argument by this name.

    Raises:
        ValueError: there is no such callable.
    """
    return argument in _arguments(_imported(name))


def call_code(name: str, *, num_classes: int, in_channels: int, width: float) -> nn.Module:
    """The user's model, from those of the arguments that the callable takes.

    Args:
        name: ``package.module:callable``.
        num_classes: given if the callable takes it.
        in_channels: likewise.
        width: likewise; one that doesn't take it has width 1 alone.

    Raises:
        ValueError: there is no such callable, it fails, it returns no module, or a width is
            wanted that it doesn't take.
    """
    function = _imported(name)
    given = {"num_classes": num_classes, "in_channels": in_channels, "width": width}
    known = _arguments(function)
    if width != 1 and "width" not in known:
        raise ValueError(f"width (={width}) must be 1, network {name} takes no width")
    try:
        network = function(**{key: value for key, value in given.items() if key in known})
    except (Exception, SystemExit) as error:
        raise ValueError(f"network (={name}) failed: {_reason(error)}") from error
    # What was compiled is counted and changed as it was before.
    network = getattr(network, "_orig_mod", network)
    if isinstance(network, torch.jit.ScriptModule) or not isinstance(network, nn.Module):
        raise ValueError(
            f"network (={name}) must return a torch.nn.Module, not {type(network).__name__}"
        )
    return network


def code_fingerprint(name: str, network: nn.Module) -> str:
    """A hash of a user's own files, so that an edited model is another one.

    They are those that define and name the callable, and those of the classes in the network that
    belong to no installed package.

    Args:
        name: ``package.module:callable``.
        network: what it returned, converted or not.

    Raises:
        ValueError: there is no such callable.
    """
    function = inspect.unwrap(_imported(name))
    # A partial has no file of its own, and a decorated function may be in its decorator's.
    files = {_file(function), _file(importlib.import_module(name.partition(":")[0]))}
    classes = {_file(type(module)) for module in network.modules()}
    files |= {path for path in classes if not path.startswith(_INSTALLED)}
    sources = [Path(path).read_bytes() for path in sorted(files) if path]
    return hashlib.sha256(b"".join(sources)).hexdigest()[:16]


def _file(thing: Any) -> str:
    """The file that defines something; "" for what is of C or whose file is gone."""
    try:
        path = inspect.getsourcefile(thing)
    except TypeError:
        return ""
    return path if path and Path(path).is_file() else ""


def _imported(name: str) -> Callable[..., Any]:
    module, _, path = name.partition(":")
    try:
        if module == "__main__":
            raise ImportError("other processes can't import __main__")
        function = reduce(getattr, path.split("."), importlib.import_module(module))
    except (Exception, SystemExit) as error:  # an import runs the user's code: anything
        raise ValueError(f"network (={name}) can't be imported: {_reason(error)}") from error
    if isinstance(function, nn.Module):
        raise ValueError(f"network (={name}) is a module, must be a callable that returns one")
    if not callable(function):
        raise ValueError(f"network (={name}) must be callable, not {type(function).__name__}")
    return function


def _arguments(function: Callable[..., Any]) -> frozenset[str]:
    """The names of the arguments that can be given by name."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some of C have none
        return frozenset()
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    # Builders of well-known libraries hand num_classes through; the others they don't share.
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        named |= {"num_classes"}
    return frozenset(named)


def _reason(error: BaseException) -> str:
    lines = str(error).splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text[:200]
