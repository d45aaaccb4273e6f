"""The check that a folder doesn't hold another study or search, whose files would be replaced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from spectrum.analysis.folder import RESULTS, STUDY
from spectrum.errors import DamagedFile, FieldError, as_text
from spectrum.files import read_checked_json
from spectrum.study.grid import TABLES, GridConfig, outside_fields, qualified_name

SEARCH = "search.json"
# Fields that change neither runs nor how they are compared.
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
    "slurm",
    "storage",
    "heartbeat",
    "compare_with",
    "track",
}
_CRITERIA = ("compare", "against", "equal_within")  # in the order in which they are checked
_MAY_GROW = {"seeds", "trials", "trial_seeds", "finalists"}
_MAKE_COMBINATIONS = {"sample", "lengths"}  # beside the fields of the grid
_Config = TypeVar("_Config", bound=GridConfig)


def check_not_another(config: GridConfig, name: str, *, compare: bool = True) -> None:
    """Checks that the folder of a study or search is free, or holds the same one.

    The same one may have grown: it may have more seeds or trials, and more values of its fields,
    if all runs that it had are among those that it has now.

    Args:
        config: the study or search.
        name: the file with its fields, ``STUDY`` or ``SEARCH``.
        compare: whether its fields are compared; the storage of a search does so itself.

    Raises:
        FieldError: the folder holds another one.
        DamagedFile: the file with the fields of the one that it holds can't be read.
    """
    folder, kind = config.out / config.name, name.partition(".")[0]
    problem = ""
    for other in {STUDY, SEARCH} - {name}:
        if (folder / other).exists():
            problem = f"a {other.partition('.')[0]}"
    before = _read(type(config), folder / name) if compare and not problem else None
    if before is not None and _has_grown(before, config):
        _check_criteria(before, config)
    elif before is not None and (name != STUDY or (folder / RESULTS).exists()):
        problem = f"another {kind} ({'; '.join(_differences(before, config))})"
    if problem:
        allowed = f"must be another name (--name): {folder} holds {problem}"
        raise FieldError("name", config.name, allowed)


def _check_criteria(before: GridConfig, now: GridConfig) -> None:
    """Raises a FieldError if what is compared, and how, was fixed in another way."""
    values, values_now = dict(before), dict(now)
    for field in (name for name in _CRITERIA if name in values):
        old, new = values[field], values_now[field]
        if old != new:
            allowed = f"must be {_shown(old)}, which was fixed before training under this --name"
            raise FieldError(field, new, allowed)


def _read(model: type[_Config], path: Path) -> _Config | None:
    try:
        fields = read_checked_json(path, unchecked=True)
        return model.checked({key: fields[key] for key in fields.keys() - _FREE})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (DamagedFile, FieldError) as error:
        reason = error.reason if isinstance(error, DamagedFile) else str(error)
        raise DamagedFile(path, f"{reason}; remove it, or give another --name") from None


def _has_grown(before: GridConfig, now: GridConfig) -> bool:
    """Whether all runs of before are among those of now."""
    values, values_now = dict(before), dict(now)
    compared = values.keys() - TABLES.keys() - outside_fields().keys() - _MAKE_COMBINATIONS
    fixed = compared - _FREE - {*_CRITERIA} - _MAY_GROW
    return (
        all(values[field] == values_now[field] for field in fixed)
        and all(values[field] <= values_now[field] for field in _MAY_GROW & values.keys())
        and _sets_budget(before) == _sets_budget(now)
        and now.includes(before)
    )


def _sets_budget(config: GridConfig) -> tuple[Any, ...]:
    """What the cost that all points share follows from, unless it is given."""
    if config.match == "none" or config.budget is not None:
        return ()
    network, data, recipe, precision = next(config.combinations())
    plain = {"segments": "C", "pointwise_segments": "1", "shuffle": False}
    reference = network.model_copy(update=plain)
    return reference, data, recipe.channels_last, precision


def _differences(before: GridConfig, now: GridConfig) -> Iterator[str]:
    values, values_now = (
        {
            field: getattr(config, field)
            for field in dict(config).keys() - _FREE - {*_CRITERIA} - TABLES.keys()
        }
        | {qualified_name(*axis): found for axis, found in config.axes().items()}
        for config in (before, now)
    )
    for field in sorted(values.keys() | values_now.keys()):
        old, new = values.get(field), values_now.get(field)
        if old != new:
            yield f"{field} {_shown(old)} not {_shown(new)}"


def _shown(value: Any) -> str:
    return "unset" if value is None else as_text(value)
