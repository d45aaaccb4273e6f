"""Imports a user's own callable, which is named as ``package.module:callable``."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from functools import reduce
from typing import Any

__all__ = ["describe_error", "import_callable", "is_callable_name"]

_NAME = r"[^\W\d]\w*(\.[^\W\d]\w*)*"


def is_callable_name(name: str) -> bool:
    """Returns whether ``name`` has the form ``package.module:callable``."""
    return re.fullmatch(f"{_NAME}:{_NAME}", name) is not None


def import_callable(name: str) -> Callable[..., Any]:
    """Imports what ``package.module:callable`` names.

    Raises:
        ValueError: it can't be imported or isn't callable. The message doesn't repeat the name.
    """
    module, _, path = name.partition(":")
    try:
        if module == "__main__":
            raise ImportError("other processes can't import __main__")
        function = reduce(getattr, path.split("."), importlib.import_module(module))
    # An import runs the user's code, which may raise any exception.
    except (Exception, SystemExit) as error:
        raise ValueError(f"can't be imported: {describe_error(error)}") from error
    if not callable(function):
        raise ValueError(f"must be callable, not {type(function).__name__}")
    return function


def describe_error(error: BaseException) -> str:
    """Returns an exception's type and the first line of its message, at most 200 characters."""
    lines = str(error).splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text[:200]
