"""Standard output and standard error, whatever they are and whatever is printed to them.

A stream that is closed, is full or has lost its reader never ends the work. Text from elsewhere,
such as the names of files and classes, can't control a terminal.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from spectrum.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

_PAUSE = 10.0  # seconds between two lines that say how much is done
_T = TypeVar("_T")


class _Stream(io.TextIOBase):
    """A stream that takes all text. What can't be written is forgotten.

    Characters that the encoding lacks are escaped.

    Attributes:
        failure: why text was lost; "" if none was, or if its reader, such as head, has gone.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.failure = ""
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def writable(self) -> bool:
        """A stream for text."""
        return True

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        with suppress(ValueError):
            return self._stream is not None and self._stream.isatty()
        return False

    def fileno(self) -> int:
        """The descriptor of the file."""
        if self._stream is None:
            raise OSError("the stream is closed")
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Write text; returns its length."""
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        self._try("flush")

    def __getattr__(self, name: str) -> Any:
        """What else the stream has, such as ``buffer``."""
        return getattr(self._stream, name)

    def _try(self, method: str, *arguments: str) -> None:
        stream = self._stream
        if stream is None:
            return
        try:
            getattr(stream, method)(*arguments)
        except (OSError, ValueError) as error:
            self._stream = None
            if not isinstance(error, BrokenPipeError):
                self.failure = getattr(error, "strerror", None) or str(error)
            # Python would write what is still buffered when it ends.
            with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())


@contextmanager
def safe_streams() -> Iterator[None]:
    """Make standard output and standard error safe to print to, for a ``with`` block.

    Raises:
        OSError: at the end, if standard output couldn't be written.
    """
    # A file that is opened must never become standard output because that was closed.
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr, warnings.formatwarning
    output, errors = _Stream(sys.stdout), _Stream(sys.stderr)
    last_resort, formatter = logging.lastResort, _OneLine()
    try:
        sys.stdout, sys.stderr = output, errors
        warnings.formatwarning = _format_warning  # type: ignore[assignment]
        if last_resort is not None:
            last_resort.setFormatter(formatter)
        yield
        output.flush()
        errors.flush()
    finally:
        sys.stdout, sys.stderr, warnings.formatwarning = before
        if last_resort is not None:
            last_resort.setFormatter(None)
    if output.failure:
        raise OSError(f"the output can't be written: {output.failure}")


def run_safely(work: Callable[[], int]) -> int:
    """Call a function with safe streams, and return its exit status, or 1 if output was lost."""
    try:
        with safe_streams():
            return work()
    except OSError as error:
        with suppress(OSError, ValueError):
            print_error(f"error: {error}", 1)
        return 1


class _OneLine(logging.Formatter):
    """Formats a message of a log as one line that is safe in a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(record.getMessage())


def _format_warning(message: Warning | str, *_: Any) -> str:
    return f"warning: {printable(str(message))}\n"


def print_error(message: str, status: int) -> int:
    """Print a message to standard error, as one line, and return the exit status."""
    print(printable(message), file=sys.stderr)
    return status


def print_text(text: str) -> None:
    """Print lines to standard output as they are, but without control characters."""
    print("\n".join(map(printable, text.split("\n"))), end="")


def make_console(*, stderr: bool = False) -> Console:
    """A console of rich that shows all text as it is, without markup.

    Args:
        stderr: whether it prints to standard error. On standard output it is 120 columns wide if
            that is no terminal.
    """
    from rich.console import Console
    from rich.segment import Segment

    class SafeConsole(Console):
        """Escapes the control characters in everything that is shown."""

        def render(self, renderable: Any, options: Any = None) -> Iterator[Segment]:
            for text, style, control in super().render(renderable, options):
                if not control and not text.isprintable():
                    text = "\n".join(map(printable, text.split("\n")))
                yield Segment(text, style, control)

    console = SafeConsole(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not stderr and not console.is_terminal:
        console.width = 120  # instead of the 80 that rich assumes
    return console


def can_animate(console: Console) -> bool:
    """Whether a console can show a bar that moves: a terminal, or a notebook with ipywidgets."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)


def show_status(console: Console, text: str) -> AbstractContextManager[object]:
    """Show on a terminal, for a ``with`` block, what is done."""
    return console.status(text) if console.is_terminal else nullcontext()


def shown_progress(
    items: Sequence[_T],
    what: str,
    console: Console | None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[_T]:
    """Yield items, and show how many are done.

    Args:
        items: what is worked on, one after another.
        what: the noun for an item and what is done to it, such as ``"points planned"``.
        console: shows a bar if it is a terminal, else a line every ten seconds; None for nothing.
        clock: returns the time in seconds.
    """
    from rich.progress import Progress

    is_terminal = console is not None and console.is_terminal
    last = clock()
    with Progress(console=console, transient=True, disable=not is_terminal) as bar:
        task = bar.add_task(what, total=len(items))
        for done, item in enumerate(items, 1):
            yield item
            bar.advance(task)
            if console is not None and not is_terminal and (now := clock()) - last >= _PAUSE:
                last = now
                console.print(f"{what}: {done:,} of {len(items):,}")
