"""The command ``spectrum``: the commands of its packages, as ``spectrum study ...``."""

from __future__ import annotations

import sys
from importlib import import_module

from spectrum import __version__

_COMMANDS = {
    "study": "train a network at several points of the dial and compare their accuracy",
    "search": "search where on the dial each part of a network is best",
    "report": "count what networks cost along the dial",
    "bench": "measure how fast layers, networks and studies are",
}


def main() -> int:
    """Run the command that the first argument names, and return its exit status."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in _COMMANDS:
        sys.argv = [f"spectrum {name}", *arguments]
        return int(import_module(f"spectrum.{name}.__main__").main())
    from spectrum.terminal import run_safely

    return run_safely(lambda: _answer(name))


def _answer(name: str) -> int:
    from spectrum.terminal import print_error

    if name == "--version":
        print(f"spectrum {__version__}")
    elif name in ("--help", "-h"):
        print(_help())
    else:
        known = ", ".join(_COMMANDS)
        return print_error(f"error: command (={name!r}) must be one of {known}", 2)
    return 0


def _help() -> str:
    lines = [f"  {name:8}{text}" for name, text in _COMMANDS.items()]
    return "\n".join(
        [
            "Usage: spectrum COMMAND [ARGUMENTS]",
            "",
            "How many channel-space segments should a convolution have? Each command has --help.",
            "",
            "Commands:",
            *lines,
            "",
            "Options:",
            "  --version  print the version",
            "  --help     print this",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
