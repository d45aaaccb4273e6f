"""The URL of a search's storage: the database that it names, and what of it may be shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote

from spectrum.files import as_path

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

_NOT_SHOWN = "not shown"
# The options of a query that hold no secret. All others are hidden, their names included.
_HARMLESS = {"charset", "client_encoding", "connect_timeout", "host", "mode", "port", "sslmode"}
_HARMLESS |= {"target_session_attrs", "timeout", "uri"}
_SQLITE_OPTIONS = {"cache", "cached_statements", "check_same_thread", "detect_types", "immutable"}
_SQLITE_OPTIONS |= {"isolation_level", "mode", "nolock", "timeout", "uri", "vfs"}
# What is shown has no character that could separate a part from the rest of a password.
_PLAIN_NAME = re.compile(r"[\w.+-]*")
_PLAIN_HOST = re.compile(r"[\w.-]*|[\da-fA-F:.]*")
_PLAIN_OPTION = re.compile(r"[\w.,/-]*")


class StorageUrl(str):
    """The URL of a database as text, whose repr shows no secrets.

    The repr hides the password and all options that aren't known to be harmless. It shows nothing
    of a URL that can't be parsed, or whose parts may hold a piece of a password.
    """

    __slots__ = ()

    @property
    def shown(self) -> str:
        """The URL without secrets."""
        try:
            url = parse_url(self)
        except ValueError:
            return "" if self == "" else _NOT_SHOWN
        is_file, hidden = is_sqlite(url), _hidden_options(self)
        if is_file and not ("@" in self or hidden):
            return str(self)
        are_plain = all(_PLAIN_NAME.fullmatch(name or "") for name in (url.username, url.database))
        # A second @ may stand in a password, of which the host or an option is then a piece.
        if (
            is_file
            or not are_plain
            or self.count("@") > 1
            or not _PLAIN_HOST.fullmatch(url.host or "")
        ):
            return _NOT_SHOWN
        shown = url.difference_update_query(hidden)
        marker = "&***" if shown.query else "?***"
        return shown.render_as_string(hide_password=True) + (marker if hidden else "")

    def is_told_by(self, text: str) -> bool:
        """Whether a text has this URL with its secrets, however it is quoted."""
        return self.shown != self and _letters(self) in _letters(text)

    def __repr__(self) -> str:
        return self.shown if self.shown == _NOT_SHOWN else repr(self.shown)


def parse_url(text: str) -> URL:
    """Parse the URL of a database. In the path of an SQLite file, ``~`` is the home folder.

    Raises:
        ValueError: it can't be parsed. The message says what is allowed, without the URL.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(str(text))
    except (ArgumentError, ValueError):
        raise ValueError(
            "must be the URL of a database that is kept, such as sqlite:///FILE or "
            "postgresql+psycopg://USER@HOST/DATABASE"
        ) from None
    if not is_sqlite(url) or not url.database:
        return url
    # SQLAlchemy leaves out what it doesn't know, such as the rest of a path after a question mark.
    options = dict(parse_qsl(str(text).partition("?")[2], keep_blank_values=True))
    if not options.keys() <= _SQLITE_OPTIONS:
        raise ValueError("must have no other options after a question mark than SQLite has")
    return url.set(database=str(as_path(url.database)))


def is_sqlite(url: URL) -> bool:
    """Whether a URL names a database of SQLite as Python has it, which has no secrets."""
    is_local = not (url.username or url.password or url.host or url.port)
    return is_local and url.drivername in ("sqlite", "sqlite+pysqlite")


def is_kept(url: URL) -> bool:
    """Whether a database outlives the process that opens it."""
    if not is_sqlite(url):
        return True
    in_memory = url.query.get("mode") == "memory"
    return not in_memory and not re.fullmatch(r"(file:)?(:memory:)?", url.database or "")


def database_file(url: URL) -> Path | None:
    """The file of an SQLite database; None for a server, or an URI of SQLite's own."""
    if not is_sqlite(url) or not url.database or "uri" in url.query:
        return None
    return Path(url.database)


def describe_error(error: BaseException, storage: StorageUrl | None) -> str:
    """The first line of an error of a database or its driver, without secrets.

    A driver may repeat any part of the URL in its messages. If the URL has secrets besides its
    password, or the message could hold the password, only the kind of error is returned.

    Args:
        error: the error.
        storage: the URL that was given; None for the default, which holds no secret.
    """
    text = next(iter(str(error).strip().splitlines()), "")
    if not text or (storage is not None and _may_tell_secrets(text, storage)):
        return type(error).__name__
    return text


def _may_tell_secrets(text: str, storage: StorageUrl) -> bool:
    try:
        url = parse_url(storage)
    except ValueError:
        return True
    if is_sqlite(url):
        return False
    if storage.shown == _NOT_SHOWN or _hidden_options(storage):
        return True
    password = str(url.password or "")
    pieces = [*_pieces(password), *_pieces(quote(password))]
    return any(piece in text.casefold() for piece in pieces)


def _pieces(secret: str) -> Iterator[str]:
    """Parts of a secret of four characters at most, as they stand in whatever quotes it."""
    for run in re.findall(r"[^\W_]+", secret.casefold()) or filter(None, [secret]):
        for start in range(max(1, len(run) - 3)):
            yield run[start : start + 4]


def _letters(text: str) -> str:
    """Text without the marks that a message may quote or escape."""
    return re.sub(r"[\W_]", "", text)


def _hidden_options(url: str) -> set[str]:
    """The names of the options in the text of a URL that aren't shown."""
    query = url.rpartition("@")[2].partition("?")[2]
    return {
        name
        for name, value in parse_qsl(query, keep_blank_values=True)
        if name not in _HARMLESS or not _PLAIN_OPTION.fullmatch(value)
    }
