"""Plans measured on this machine, for layers that a user asked to tune.

They are stored as JSON in the user's cache folder, as one plan by the description of a layer, its
input and the machine. ``tune`` stores them and ``plan_of`` reads them.
"""

from __future__ import annotations

import json
import platform
from functools import cache
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor, nn

from spectrum.files import cache_folder, write_atomic
from spectrum.kernels.eligibility import autocast_type, channels_last

__all__ = ["delete_tuned_plans", "save_tuned_plan", "tuned_plan"]


def tuned_plan(conv: nn.Conv2d, x: Tensor) -> str | None:
    """The stored plan for such a layer and input on this machine; None where there is none."""
    plans = _tuned_plans()
    return plans.get(_key(conv, x)) if plans else None


def save_tuned_plan(conv: nn.Conv2d, x: Tensor, plan: str) -> None:
    """Store the plan of a layer on disk, for this process and later ones.

    Raises:
        OSError: the user's cache folder can't be written.
    """
    path = _path()
    if path is None:
        raise OSError("there is no cache folder to keep plans in")
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        plans = _read(path) | {_key(conv, x): plan}
        text = json.dumps(plans, indent=1, sort_keys=True) + "\n"
        write_atomic(path, lambda file: file.write(text.encode()))
    _tuned_plans.cache_clear()


def delete_tuned_plans() -> None:
    """Delete all stored plans, so that every layer takes its plan from the table again."""
    path = _path()
    if path is not None:
        path.unlink(missing_ok=True)
    _tuned_plans.cache_clear()


def _path() -> Path | None:
    folder = cache_folder()
    return None if folder is None else folder / "plans.json"


@cache
def _tuned_plans() -> dict[str, str]:
    path = _path()
    return {} if path is None else _read(path)


def _read(path: Path) -> dict[str, str]:
    try:
        plans = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the file is missing or damaged
        return {}
    return plans if isinstance(plans, dict) else {}


def _key(conv: nn.Conv2d, x: Tensor) -> str:
    """Everything that the time of a plan depends on, as text."""
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
