"""Plans that were measured on this machine, for layers that somebody asked to tune."""

from __future__ import annotations

import json
import os
import platform
from functools import cache
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor, nn

from spectrum.layers.plain import autocast_type, channels_last

__all__ = ["forget_plans", "keep_plan", "kept_plan"]


def kept_plan(conv: nn.Conv2d, x: Tensor) -> str | None:
    """The plan that was the fastest for such a layer on this machine; None where none was kept."""
    kept = _kept()
    return kept.get(_key(conv, x)) if kept else None


def keep_plan(conv: nn.Conv2d, x: Tensor, plan: str) -> None:
    """Keep the fastest plan on disk, for this process and those to come.

    Raises:
        OSError: the user's cache folder can't be written.
    """
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        kept = _read(path) | {_key(conv, x): plan}
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        unfinished.replace(path)
    _kept.cache_clear()


def forget_plans() -> None:
    """Go back to the table for every layer."""
    _path().unlink(missing_ok=True)
    _kept.cache_clear()


def _path() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "spectrum" / "plans.json"


@cache
def _kept() -> dict[str, str]:
    return _read(_path())


def _read(path: Path) -> dict[str, str]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or not ours any longer
        return {}
    return kept if isinstance(kept, dict) else {}


def _key(conv: nn.Conv2d, x: Tensor) -> str:
    """All that a plan's time depends on."""
    return " ".join(
        str(part).replace(" ", "")
        for part in (
            platform.node(),
            torch.__version__,
            torch.get_num_threads(),
            str(autocast_type(x)).removeprefix("torch."),
            "channels_last" if channels_last(x) else "contiguous",
            tuple(x.shape),
            conv.out_channels,
            conv.groups,
            conv.kernel_size,
            conv.stride,
            conv.dilation,
        )
    )
