"""Imports and calls a user's own callable, which is named as ``package.module:callable``."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from spectrum.errors import FieldError

_NAME = r"[^\W\d]\w*(\.[^\W\d]\w*)*"


def is_callable_name(name: str) -> bool:
    """Returns whether ``name`` has the form ``package.module:callable``."""
    return re.fullmatch(f"{_NAME}:{_NAME}", name) is not None


def import_callable(field: str, name: str) -> Callable[..., Any]:
    """Imports what ``package.module:callable`` names.

    Args:
        field: the field that holds the name, for an error.
        name: the name.

    Raises:
        FieldError: it can't be imported or isn't callable.
    """
    module, _, path = name.partition(":")
    try:
        if module == "__main__":
            raise ImportError("other processes can't import __main__")
        function = reduce(getattr, path.split("."), importlib.import_module(module))
    # An import runs the user's code, which may raise any exception.
    except (Exception, SystemExit) as error:
        raise FieldError(field, name, f"can't be imported: {describe_error(error)}") from error
    if not callable(function):
        raise FieldError(field, name, f"must be callable, not {type(function).__name__}")
    return function


def hash_sources(modules: Sequence[str]) -> str:
    """A hash of the source files of modules: 16 hexadecimal digits, "" if one isn't found.

    Nothing is imported.

    Args:
        modules: the names of the modules, in the order in which their sources are hashed.
    """
    digest = hashlib.sha256()
    for module in modules:
        origin = _find_source(module)
        if origin is None:
            return ""
        digest.update(Path(origin).read_bytes())
    return digest.hexdigest()[:16]


def _find_source(module: str) -> str | None:
    """The path of a module's source file; neither the module nor its packages are imported."""
    places: Sequence[str] | None = None
    origin = None
    for end in (*(found.start() for found in re.finditer(r"\.", module)), None):
        specs = (finder.find_spec(module[:end], places) for finder in sys.meta_path)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None:
            return None
        places, origin = spec.submodule_search_locations, spec.origin
    return origin if origin is not None and Path(origin).is_file() else None


def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of a callable; none if it is written in C and has no signature."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []


def call_user_callable(field: str, name: str, **arguments: object) -> Any:
    """Imports and calls what ``package.module:callable`` names.

    Args:
        field: the field that holds the name, for an error.
        name: the name.
        **arguments: the arguments of the call.

    Raises:
        FieldError: it can't be imported, isn't callable, or raises an exception.
    """
    function = import_callable(field, name)
    try:
        return function(**arguments)
    except (Exception, SystemExit) as error:
        raise FieldError(field, name, f"failed: {describe_error(error)}") from error


def describe_error(error: BaseException) -> str:
    """An exception's type and the first line of its message, at most 200 characters."""
    lines = str(error).splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text[:200]
