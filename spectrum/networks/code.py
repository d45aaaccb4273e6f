"""A user's own network, named as ``package.module:callable``."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spectrum.errors import FieldError
from spectrum.user_code import call_user_callable, import_callable, parameters_of

# The folder of installed packages and that of this package.
_INSTALLED = (str(Path(torch.__file__).parents[1]), str(Path(__file__).parents[1]))


def takes_argument(name: str, argument: str) -> bool:
    """Whether the callable ``name`` has an argument with this name.

    Raises:
        FieldError: there is no such callable.
    """
    return argument in _argument_names(name)


def call_user_code(name: str, *, num_classes: int, in_channels: int, width: float) -> nn.Module:
    """Build a user's network. The callable receives only the arguments that it accepts.

    Args:
        name: ``package.module:callable``.
        num_classes: number of classes.
        in_channels: channels of the images.
        width: multiplier on the channel counts.

    Raises:
        FieldError: there is no such callable, it fails or returns no module, or ``width`` isn't 1
            and the callable has no such argument.
    """
    values = {"num_classes": num_classes, "in_channels": in_channels, "width": width}
    accepted = _argument_names(name)
    if width != 1 and "width" not in accepted:
        raise FieldError("width", width, f"must be 1, network {name} takes no width")
    arguments = {key: value for key, value in values.items() if key in accepted}
    network = call_user_callable("network", name, **arguments)
    # A compiled module is unwrapped, because the original is what is counted and converted.
    network = getattr(network, "_orig_mod", network)
    if isinstance(network, torch.jit.ScriptModule) or not isinstance(network, nn.Module):
        raise FieldError(
            "network", name, f"must return a torch.nn.Module, not {type(network).__name__}"
        )
    return network


def code_fingerprint(name: str, network: nn.Module) -> str:
    """A hash of the user's files that define a network, so that an edited network is another one.

    The files are the one that defines the callable, the one of the module in ``name``, and those
    of the network's classes that belong to no installed package.

    Args:
        name: ``package.module:callable``.
        network: the network that the callable returned, converted or not.

    Raises:
        FieldError: there is no such callable.
    """
    sources = [Path(path).read_bytes() for path in _sources(name, network)]
    return hashlib.sha256(b"".join(sources)).hexdigest()[:16]


def code_modules(name: str, network: nn.Module) -> tuple[str, ...]:
    """The modules whose files ``code_fingerprint`` hashes, in the same order."""
    return tuple(_sources(name, network).values())


def _sources(name: str, network: nn.Module) -> dict[str, str]:
    """The module of each of the user's files that define a network, by its path, in order."""
    function = inspect.unwrap(_import_callable(name))
    module = name.partition(":")[0]
    # A partial has no file, and a decorated function may be in the decorator's.
    files = {_file(importlib.import_module(module)): module}
    files.setdefault(_file(function), getattr(function, "__module__", module))
    for kind in {type(part) for part in network.modules()}:
        if not _file(kind).startswith(_INSTALLED):
            files.setdefault(_file(kind), kind.__module__)
    return {path: files[path] for path in sorted(files) if path}


def _file(definition: Any) -> str:
    """The file with a definition; "" if it is written in C or its file no longer exists."""
    try:
        path = inspect.getsourcefile(definition)
    except TypeError:
        return ""
    return path if path and Path(path).is_file() else ""


def _import_callable(name: str) -> Callable[..., Any]:
    function = import_callable("network", name)
    if isinstance(function, nn.Module):
        raise FieldError("network", name, "is a module, must be a callable that returns one")
    return function


def _argument_names(name: str) -> set[str]:
    """The names of a callable's arguments that can be given by name."""
    parameters = parameters_of(_import_callable(name))
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    # Functions of well-known libraries pass num_classes on; they don't share the other names.
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        named.add("num_classes")
    return named
