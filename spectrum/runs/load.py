"""The network of a finished run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import safetensors.torch
from safetensors import SafetensorError
from torch import nn

from spectrum.errors import FieldError
from spectrum.files import as_path
from spectrum.networks import (
    NetworkConfig,
    Supernet,
    build_on_meta,
    code_fingerprint,
    is_user_code,
)
from spectrum.runs.result import CONFIG, RESULT, WEIGHTS, FinishedRun, read_finished_run
from spectrum.runs.shared_training import SharedTraining
from spectrum.user_code import hash_sources


def load_run(folder: Path | str, *, trust_code: bool | Literal["changed"] = False) -> nn.Module:
    """Load the trained network of a run, in eval mode on the CPU.

    That of a run that trained a ``Supernet`` is one, set to the candidate with the most parameters
    at the largest width, of which it has batch normalisation's statistics.

    Args:
        folder: the folder of the run, such as ``outputs/runs/<id>``.
        trust_code: whether the code of a user's own network may be imported, which runs it. The
            run names it as ``package.module:callable``. Code that has changed since the run is
            refused, unless ``trust_code`` is ``"changed"``.

    Raises:
        ValueError: the folder holds no finished run, its files are damaged, or its network is code
            that isn't trusted or has changed.
    """
    folder = as_path(folder)
    try:
        with _damage_named(folder):
            run = read_finished_run(folder)
    except (FileNotFoundError, NotADirectoryError):
        raise FieldError("folder", folder, f"must hold a finished run; no {RESULT}") from None
    if run.result["status"] != "done":
        raise FieldError("folder", folder, "must hold trained weights, but the run diverged")
    with _damage_named(folder):
        fields = json.loads(run.read(CONFIG))
        config, code = NetworkConfig.checked(fields["network"]), str(fields.get("code", ""))
        shared = SharedTraining.checked(fields["shared"]) if fields.get("shared") else None
    if is_user_code(config.name):
        _check_code(run, config.name, code, trust_code)
    with _damage_named(folder):
        network = build_on_meta(config)
    if code and trust_code != "changed" and code != code_fingerprint(config.name, network):
        raise _changed(folder, config.name)
    with _damage_named(folder):
        if shared is not None:
            network = Supernet(config, shared.segments, shared.widths)
        weights = safetensors.torch.load(run.read(WEIGHTS))
        network.load_state_dict(weights, assign=True)
    return network.eval()


@contextmanager
def _damage_named(folder: Path) -> Iterator[None]:
    """Turn errors in what a run's files hold into one that names the folder."""
    try:
        yield
    except (ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        remedy = "delete the folder to have the run done again"
        raise FieldError("folder", folder, f"holds a damaged run: {reason}; {remedy}") from error


def _check_code(run: FinishedRun, name: str, code: str, trust_code: bool | str) -> None:
    """Raise a FieldError, before anything is imported, if the code mustn't be run."""
    if not trust_code:
        raise FieldError(
            "folder",
            run.folder,
            f"holds a run of the network {name}, whose code would be imported and run; "
            "load_run(folder, trust_code=True) does so",
        )
    if trust_code != "changed" and run.code_modules and hash_sources(run.code_modules) != code:
        raise _changed(run.folder, name)


def _changed(folder: Path, name: str) -> FieldError:
    return FieldError(
        "folder",
        folder,
        f"holds a run of the network {name}, whose code has changed since; "
        'trust_code="changed" loads it all the same',
    )
