"""The command ``spectrum``: the commands of its packages, as ``spectrum study ...``."""

from __future__ import annotations

import os
import sys
from difflib import get_close_matches
from importlib import import_module

from spectrum import __version__

_COMMANDS = {
    "study": "train a network at several points of the dial and compare their accuracy",
    "search": "search where on the dial each part of a network is best",
    "report": "count what networks cost along the dial",
    "bench": "measure how fast layers, networks and studies are",
}
_COMPLETION = {
    "--install-completion": "install completion for the current shell",
    "--show-completion": "print the completion of the current shell",
}
_OPTIONS = {"--version": "print the version", **_COMPLETION, "--help": "print this"}


def main() -> int:
    """Run the command that the first argument names, and return its exit status."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in _COMMANDS:
        if os.getcwd() not in sys.path:  # for the user's own code, as with python -m
            sys.path.insert(0, os.getcwd())
        sys.argv = [f"spectrum {name}", *arguments]
        return int(import_module(f"spectrum.{name}.__main__").main())
    from spectrum.terminal import run_safely

    return run_safely(lambda: _answer(name))


def _answer(name: str) -> int:
    from spectrum.terminal import print_error

    if name in _COMPLETION or "_SPECTRUM_COMPLETE" in os.environ:
        from spectrum.cli import complete

        return complete(
            {name: import_module(f"spectrum.{name}.__main__").make() for name in _COMMANDS}
        )
    if name == "--version":
        print(f"spectrum {__version__}")
    elif name in ("--help", "-h"):
        print(_help())
    else:
        known = ", ".join(_COMMANDS)
        close = get_close_matches(name, [*_COMMANDS, *_OPTIONS], 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return print_error(f"error: command (={name!r}) must be one of {known}{hint}", 2)
    return 0


def _help() -> str:
    return "\n".join(
        [
            "Usage: spectrum COMMAND [ARGUMENTS]",
            "",
            "How many channel-space segments should a convolution have? Each command has --help.",
            "",
            "Commands:",
            *(f"  {name:8}{text}" for name, text in _COMMANDS.items()),
            "",
            "Options:",
            *(f"  {name:22}{text}" for name, text in _OPTIONS.items()),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
