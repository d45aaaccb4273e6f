"""The plans that were tuned for a device, in a file of the user's cache folder.

The file is JSON: one plan by the description of a layer, its input and the device.
"""

from __future__ import annotations

import logging
import platform
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import torch
from filelock import FileLock
from pydantic import ConfigDict, TypeAdapter
from torch import Tensor, nn

from spectrum.errors import FieldError
from spectrum.fields import check_stored
from spectrum.files import cache_folder, read_checked_json, write_checked_json
from spectrum.kernels.eligibility import type_and_layout

Plan: TypeAlias = Literal["native", "merged8", "merged", "merged32", "merged64", "relaid", "kernel"]
"""``native`` is torch's grouped convolution. ``merged`` is the same with neighbouring segments
joined to blocks of up to 16 channels, which are zero off the diagonal, and ``merged8``,
``merged32`` and ``merged64`` with blocks of up to 8, 32 and 64. ``relaid`` copies the input to
channels_last, runs torch's convolution and copies the output back. ``kernel`` runs a compiled
kernel of this package, on the CPU alone."""

PLANS: tuple[Plan, ...] = get_args(Plan)
_STORED = TypeAdapter(dict[str, Plan], config=ConfigDict(strict=True))
_LOG = logging.getLogger(__name__)


TRAINING = "training"
"""Begins the descriptions of calls with gradients."""


def describe_call(conv: nn.Conv2d, x: Tensor) -> str:
    """Everything that the time of a plan depends on, as text."""
    return " ".join(
        str(part).replace(" ", "")
        for part in (
            TRAINING if torch.is_grad_enabled() else "inference",
            platform.node() if x.is_cpu else torch.cuda.get_device_name(x.device),
            torch.__version__,
            torch.get_num_threads(),
            *type_and_layout(x),
            tuple(x.shape),
            conv.out_channels,
            conv.groups,
            conv.kernel_size,
            conv.stride,
            conv.dilation,
        )
    )


def check_plans(plans: Any) -> dict[str, Plan]:
    """Check plans that are read back.

    Raises:
        FieldError: they aren't what ``keep_plans`` notes.
    """
    return check_stored(_STORED, plans)


@cache
def stored_plans() -> dict[str, Plan]:
    """The stored plans; none where the file is missing or damaged, which costs only time."""
    path = _path()
    try:
        values = {} if path is None else read_checked_json(path, unchecked=True)
        return check_plans(values)
    except FileNotFoundError:
        return {}
    except FieldError as error:
        _LOG.warning("the plans in %s are ignored: %s", path, error)
    except (OSError, ValueError) as error:
        _LOG.warning("the tuned plans are ignored: %s", error)
    return {}


def store_plan(call: str, plan: Plan) -> None:
    """Store the plan of a call beside those that are stored already.

    Raises:
        OSError: the user's cache folder can't be written.
    """
    path = _path()
    if path is None:
        raise OSError("there is no cache folder to keep plans in")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        stored_plans.cache_clear()  # another process may have stored some
        write_checked_json(path, stored_plans() | {call: plan})
    stored_plans.cache_clear()


def _path() -> Path | None:
    folder = cache_folder()
    return None if folder is None else folder / "plans.json"
