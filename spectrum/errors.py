"""The errors about values and files, and how text from elsewhere is shown in one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

# Control characters, line ends, marks that reverse the order of the text, and lone surrogates.
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


class FieldError(ValueError):
    """A value that a field can't have. Its text is one line: ``field (=value) allowed``.

    Attributes:
        field: the name of the field, argument or column, with its table if it has one, such as
            ``"recipe.lr"``.
        value: the value that was given.
        allowed: what is allowed, beginning with a verb, such as ``"must be at least 1"``.
    """

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(field, value, allowed)
        self.field = field
        self.value = value
        self.allowed = allowed

    def __str__(self) -> str:
        return printable(f"{self.field} (={as_text(self.value)}) {self.allowed}")

    def renamed(self, field: str) -> FieldError:
        """The same error about a field of another name."""
        return type(self)(field, self.value, self.allowed)


class CombinationError(FieldError):
    """Values that are allowed each for itself, but not together.

    A sampled study draws another combination.
    """


@contextmanager
def errors_about(field: str, *others: str) -> Iterator[None]:
    """Gives FieldErrors that are raised in a ``with`` block the name of a field.

    Args:
        field: the name.
        others: the only fields whose errors get it; without any, all get it.
    """
    try:
        yield
    except FieldError as error:
        if others and error.field not in others:
            raise
        raise error.renamed(field) from None


class DamagedFile(ValueError):
    """A file that doesn't hold what it must. Its text is one line: ``path is damaged: reason``.

    Attributes:
        path: the file.
        reason: what is wrong with its content.
    """

    def __init__(self, path: PurePath, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return printable(f"{self.path} is damaged: {self.reason}")


def printable(text: str) -> str:
    r"""Text from elsewhere, such as a file's name, as one line that is safe in a terminal.

    Characters that control a terminal, end a line or reverse the order of the text are escaped, as
    ``\x1b`` or ``\n``. All scripts are kept.
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def counted(n: int, noun: str) -> str:
    """A number of things in words: ``1 file``, ``2 files``.

    Args:
        n: the number.
        noun: what is counted, in the singular; its plural ends with "s".
    """
    return f"{n:,} {noun}{'s' * (n != 1)}"


def as_text(value: object) -> str:
    """A value as text of at most 200 characters, for a message.

    The items of a tuple or list are separated by commas; a list of one item is shown as a list.
    Paths are shown whole, without quotes.
    """
    if isinstance(value, PurePath):
        return str(value)
    try:
        if (isinstance(value, tuple) and value) or (isinstance(value, list) and len(value) > 1):
            text = ",".join(map(str, value))
        else:
            text = repr(value)
    except ValueError:  # Python refuses to print numbers with thousands of digits
        text = "a number of thousands of digits"
    except RecursionError:
        text = "a value that is nested too deeply"
    return text if len(text) <= 200 else text[:197] + "..."


def first_field_error(error: ValidationError, known: Iterable[str] = ()) -> FieldError:
    """The first error that pydantic found in a configuration.

    A validator may raise a ``FieldError`` itself, which is returned as it is. A plain
    ``ValueError`` of a validator of one field says what is allowed.

    Args:
        error: the error that pydantic raised.
        known: the fields to name if a field is unknown.
    """
    first = error.errors(include_url=False)[0]
    field = str(first["loc"][0]) if first["loc"] else ""
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, FieldError):
        return cause
    if cause is not None:
        return FieldError(field, first["input"], str(cause))
    allowed = first["msg"].replace("Input should be", "must be", 1)
    if first["type"] == "extra_forbidden":
        allowed = f"is not a known field; known: {', '.join(sorted(known))}"
    return FieldError(field, first["input"], allowed)
