"""Configurations and results as trackers take them: flat, and numbers apart from texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def flatten(config: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """The values of a nested configuration by names such as ``"recipe.lr"``.

    What is neither a number nor a text becomes a text. Values that are None or "" are left out.
    """
    return dict(_flat_items(config, ""))


def _flat_items(
    values: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, bool | int | float | str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat_items(value, f"{prefix}{name}.")
        elif value not in (None, ""):
            is_plain = isinstance(value, bool | int | float | str)
            yield prefix + name, value if is_plain else str(value)


def numbers_of(result: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a result, named ``"result/test_top1"``, beside which curves have theirs."""
    return {f"result/{name}": value for name, value in result.items() if _is_number(value)}


def texts_of(result: Mapping[str, Any]) -> dict[str, str]:
    """What else a result holds, such as its status and the device."""
    return {name: str(value) for name, value in result.items() if not _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
