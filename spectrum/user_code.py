"""Imports and calls a user's own callable, which is named as ``package.module:callable``."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from functools import reduce
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
