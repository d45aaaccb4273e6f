"""The check that a folder doesn't hold another study or search, whose files would be replaced."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spectrum.analysis.folder import STUDY
from spectrum.errors import FieldError, as_text
from spectrum.files import read_file
from spectrum.study.grid import GridConfig

SEARCH = "search.json"
# Fields that change no run, or only how results are compared and shown.
_FREE = {
    "name",
    "out",
    "runs",
    "device",
    "threads",
    "workers",
    "engine",
    "address",
    "gpus",
    "compare",
    "storage",
    "heartbeat",
}


def check_not_another(config: GridConfig, name: str, *, compare: bool = True) -> None:
    """Checks that the folder of a study or search is free, or holds the same one.

    The same one may have grown: it may have more seeds or trials, and more values of its fields.
    A file that can't be read counts as none, since the runs themselves are in the store.

    Args:
        config: the study or search.
        name: the file with its fields, ``STUDY`` or ``SEARCH``.
        compare: whether its fields are compared; the storage of a search does so itself.

    Raises:
        FieldError: the folder holds another one.
    """
    folder = config.out / config.name
    for other in {STUDY, SEARCH} - {name}:
        if (folder / other).exists():
            kind = other.partition(".")[0]
            allowed = f"must be another name (--name): {folder} holds a {kind}"
            raise FieldError("name", config.name, allowed)
    stored = _read(folder / name) if compare else {}
    fields = config.model_dump(mode="json")
    for field in fields.keys() - _FREE if stored else ():
        default = type(config).model_fields[field].get_default(call_default_factory=True)
        before = stored.get(field, json.loads(json.dumps(default, default=str)))
        # A sample of a larger grid is another sample.
        may_grow = not (fields.get("sample") or stored.get("sample"))
        if field in ("seeds", "trials") and may_grow and isinstance(before, int):
            is_same = fields[field] >= before
        else:
            is_same = _contains(fields[field], before) if may_grow else fields[field] == before
        if not is_same:
            now = as_text(fields[field])
            kind = name.partition(".")[0]
            raise FieldError(
                "name",
                config.name,
                f"must be another name (--name): {folder} holds a {kind} with {field} "
                f"(={as_text(before)}), "
                f"not {now}",
            )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        stored = json.loads(read_file(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _contains(now: Any, before: Any) -> bool:
    """Whether a value is that of before, or has all of its values and further ones."""
    if isinstance(now, dict) and isinstance(before, dict):
        return now.keys() == before.keys() and all(_contains(now[k], before[k]) for k in now)
    if isinstance(now, list) and isinstance(before, list):
        return all(value in now for value in before)
    return bool(now == before)
