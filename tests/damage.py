"""Damage to files, drawn by hypothesis, and the check of what reading them comes to."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

HOSTILE: list[Any] = [None, "", "NaN", "0.5", True, -1, 0, 2.0, 99, 1e400, -1e400, 10**30, [], {}]
"""Values that may stand where another one belongs."""


def draw_content(data: st.DataObject, content: bytes, suffix: str) -> bytes:
    """Draws damaged content of a file."""
    ways = [_flip, _cut, _drop, _repeat, _insert, _exchange, _replace]
    if re.search(rb"\d", content):
        ways.append(_other_digit)
    if suffix in (".json", ".jsonl"):
        ways += [_other_json] * 3
    if suffix == ".csv":
        ways += [_other_cell] * 3
    return data.draw(st.sampled_from(ways), label="damage")(data, content)


@contextmanager
def damaged(data: st.DataObject, path: Path) -> Iterator[None]:
    """Damages a file, or puts something else in its place, and restores it in the end."""
    original = path.read_bytes()
    ways = ["content"] * 12 + ["nothing", "a folder", "a pipe", "a link to itself", "no content"]
    way = data.draw(st.sampled_from(ways), label="what is there")
    if way == "content":
        path.write_bytes(draw_content(data, original, path.suffix))
    else:
        path.unlink()
    if way == "a folder":
        path.mkdir()
    elif way == "a pipe":
        os.mkfifo(path)
    elif way == "a link to itself":
        path.symlink_to(path.name)
    elif way == "no content":
        path.touch()
    try:
        yield
    finally:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.write_bytes(original)


def check_outcome(read: Callable[[], Any], path: Path, truth: Callable[[Any], bool]) -> bool:
    """Checks that reading a damaged file gives the truth, or one line that names the file.

    Args:
        read: reads the file.
        path: the file.
        truth: whether what was read is true.

    Returns:
        Whether it was read.
    """
    try:
        found = read()
    except (ValueError, OSError) as error:
        message = str(error)
    else:
        assert truth(found), found
        return True
    assert len(message.splitlines()) == 1, message
    assert path.name in message, message
    return False


def _place(data: st.DataObject, content: bytes) -> int:
    return data.draw(st.integers(0, max(0, len(content) - 1)), label="place")


def _slice(data: st.DataObject, content: bytes) -> slice:
    start = _place(data, content)
    return slice(start, start + data.draw(st.integers(1, 200), label="length"))


def _flip(data: st.DataObject, content: bytes) -> bytes:
    flipped = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3), label="bits")):
        flipped[_place(data, content)] ^= 1 << data.draw(st.integers(0, 7), label="bit")
    return bytes(flipped)


def _cut(data: st.DataObject, content: bytes) -> bytes:
    return content[: _place(data, content)]


def _drop(data: st.DataObject, content: bytes) -> bytes:
    part = _slice(data, content)
    return content[: part.start] + content[part.stop :]


def _repeat(data: st.DataObject, content: bytes) -> bytes:
    part = _slice(data, content)
    return content[: part.stop] + content[part.start :]


def _insert(data: st.DataObject, content: bytes) -> bytes:
    place = _place(data, content)
    return content[:place] + data.draw(st.binary(min_size=1, max_size=40)) + content[place:]


def _exchange(data: st.DataObject, content: bytes) -> bytes:
    place = _place(data, content)
    return content[place:] + content[:place]


def _replace(data: st.DataObject, content: bytes) -> bytes:
    return data.draw(st.binary(max_size=200), label="content")


def _other_digit(data: st.DataObject, content: bytes) -> bytes:
    places = [found.start() for found in re.finditer(rb"\d", content)]
    place = data.draw(st.sampled_from(places), label="digit")
    return (
        content[:place]
        + data.draw(st.sampled_from(b"0123456789")).to_bytes()
        + content[place + 1 :]
    )


def _other_json(data: st.DataObject, content: bytes) -> bytes:
    """A JSON file, or a line of one, with a value exchanged or a key left out."""
    lines = content.splitlines(keepends=True)
    try:
        values = [json.loads(content)]
    except ValueError:
        values = [json.loads(line) for line in lines]
    place = data.draw(st.integers(0, len(values) - 1), label="line")
    values[place] = _other_value(data, values[place])
    return "".join(f"{json.dumps(value)}\n" for value in values).encode()


def _other_value(data: st.DataObject, value: Any) -> Any:
    if isinstance(value, dict | list) and value and data.draw(st.integers(0, 5), label="deeper"):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = data.draw(st.sampled_from(keys), label="key")
        changed = value.copy()
        if data.draw(st.integers(0, 4), label="change"):
            changed[key] = _other_value(data, value[key])
        else:
            del changed[key]
        return changed
    return data.draw(st.sampled_from(HOSTILE), label="value")


def _other_cell(data: st.DataObject, content: bytes) -> bytes:
    """A CSV file with a cell exchanged, left out or added, or without a row."""
    rows = [line.split(b",") for line in content.splitlines()]
    row = data.draw(st.integers(0, len(rows) - 1), label="row")
    column = data.draw(st.integers(0, len(rows[row]) - 1), label="column")
    way = data.draw(st.sampled_from(["exchange", "leave out", "add", "row"]), label="change")
    cell = str(data.draw(st.sampled_from(HOSTILE), label="value")).encode()
    if way == "exchange":
        rows[row][column] = cell
    elif way == "leave out":
        del rows[row][column]
    elif way == "add":
        rows[row].insert(column, cell)
    else:
        del rows[row]
    return b"".join(b",".join(row) + b"\n" for row in rows)
