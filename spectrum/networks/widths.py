"""Widths at which a network is the same, since rounding gives equal numbers of channels."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from spectrum.networks.config import NetworkConfig, is_user_code
from spectrum.networks.options import record_scaled

_T = TypeVar("_T")


def once_per_channels(
    config: NetworkConfig, make: Callable[[float], _T], kept: int | None = None
) -> Callable[[float], _T]:
    """Make a function of the width that calls ``make`` once for all widths with equal channels.

    Args:
        config: the configuration, whose own width isn't used.
        make: builds the network at a width and returns something of it.
        kept: how many results are kept, the latest; None for all.
    """
    if is_user_code(config.name):
        return lru_cache(kept)(make)
    results: dict[tuple[int, ...], _T] = {}
    scaled: set[tuple[int, float, float]] = set()

    def channels(width: float) -> tuple[int, ...]:
        at_width = config.model_copy(update={"width": width})
        return tuple(at_width.scale(*arguments) for arguments in sorted(scaled))

    def once(width: float) -> _T:
        key = channels(width)
        if key not in results:
            with record_scaled() as found:
                result = make(width)
            scaled.update(found)
            results[channels(width)] = result
            if kept is not None and len(results) > kept:
                del results[next(iter(results))]
            return result
        return results[key]

    return once
