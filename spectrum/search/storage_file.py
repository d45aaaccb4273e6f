"""The check of an SQLite file, before Optuna opens it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from optuna.storages._rdb.models import BaseModel

_LOCK_SECONDS = 10.0  # to wait for other processes, each of which writes for milliseconds


def find_damage(path: Path) -> str | None:
    """What keeps a file from being used as the database of searches, in a line; None if nothing.

    A file that doesn't exist or is empty can be used.
    """
    try:
        # SQLite would wait for a pipe without end.
        for name in (path.name, f"{path.name}-journal", f"{path.name}-wal"):
            beside = path.with_name(name)
            if beside.exists() and not beside.is_file():
                return f"{name} is no regular file"
        return _check_content(path) if path.exists() else None
    except sqlite3.Error as error:
        return str(error)
    except OSError as error:
        return f"it can't be read ({error.strerror})"


def _check_content(path: Path) -> str | None:
    address = f"{path.absolute().as_uri()}?mode=rw"
    database = sqlite3.connect(address, _LOCK_SECONDS, uri=True, isolation_level=None)
    with closing(database):
        database.execute("BEGIN IMMEDIATE")  # fails if another program keeps it locked
        (found,) = database.execute("PRAGMA integrity_check(1)").fetchone()
        rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    tables = {name for (name,) in rows}
    if found != "ok":
        return str(found)
    if tables and tables.isdisjoint(BaseModel.metadata.tables):
        return "it is the database of another program"
    return None
