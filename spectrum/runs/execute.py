"""The execution of one run, from its configuration to its result in the store.

``execute_safely`` turns exceptions into results, ``load_or_train`` consults and writes the store
under the run's lock, and ``train_and_test`` computes. Workers call ``execute_run`` of
``spectrum.runs.events``; the ranks of ``torchrun`` other than 0 call ``train_and_test``.
"""

from __future__ import annotations

import json
import logging
import math
import platform
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import torch
from filelock import Timeout
from torch import nn

from spectrum import __version__
from spectrum.data import load_data
from spectrum.errors import FieldError
from spectrum.layers.acceleration import keep_plans, name_plans
from spectrum.machine import device_name, is_out_of_memory, keep_freed_memory
from spectrum.networks import Supernet, build, code_modules
from spectrum.runs.config import RunConfig
from spectrum.runs.initial_weights import build_with_weights
from spectrum.runs.sandwich import make_sandwich
from spectrum.runs.store import Store
from spectrum.training import (
    CheckpointMismatch,
    Diverged,
    Evaluation,
    FitResult,
    Metrics,
    evaluate,
    fit,
)
from spectrum.training.distributed import broadcast, on_rank_zero, rank, world_size
from spectrum.training.method import Plain
from spectrum.training.seeding import seeded

log = logging.getLogger(__name__)

_LOCK_WARNING = 10  # seconds to wait for another process's lock before logging a warning

deterministic = partial(
    torch.backends.cudnn.flags, enabled=True, benchmark=False, deterministic=True, allow_tf32=False
)
"""A context in which a GPU's convolutions are deterministic and float32 isn't rounded to TF32."""


class RunStopped(Exception):
    """Raised in a run to stop it; its checkpoint is kept."""


def execute_safely(
    run: RunConfig, store: Store, device: str, on_evaluation: Callable[[Evaluation], None]
) -> dict[str, Any]:
    """Execute a run; exceptions become results with a status and a reason.

    The status ``diverged`` is final and kept in the store. ``out_of_memory``, ``io_error`` and
    ``failed`` are not kept, so the next study or search that asks for the run tries it again. The
    traceback of a ``failed`` run is written to its folder. If ``on_evaluation`` raises
    ``RunStopped`` the status is ``stopped``; the run continues from its checkpoint next time.

    Args:
        run: the run.
        store: where its files go.
        device: the device to train on.
        on_evaluation: called with each line of the learning curve.

    Returns:
        The result of the run as plain values, ``status`` and ``error`` among them.
    """
    try:
        with deterministic():
            return load_or_train(run, store, device, on_evaluation)
    except RunStopped:
        return {"status": "stopped", "error": "not wanted any longer"}
    except Exception as error:
        status, reason = status_and_reason(error)
        if status == "failed":
            with suppress(OSError):
                path = store.traceback_path(run.id)
                path.write_text(traceback.format_exc(), encoding="utf-8")
                reason = f"{reason} (see {path})"
        return {"status": status, "error": reason}


def load_or_train(
    run: RunConfig, store: Store, device: str, on_evaluation: Callable[[Evaluation], None]
) -> dict[str, Any]:
    """Load the result of a run from the store, or train the run if it isn't finished.

    Training continues from the run's checkpoint if there is one.

    Args:
        run: the run.
        store: where its files go. A lock there keeps other processes from training it as well.
        device: the device to train on.
        on_evaluation: called with each line of the learning curve.

    Returns:
        The result as plain values; ``status`` is ``done`` or ``diverged``.
    """
    with _locked(store, run.id):
        result = store.result(run.id)
        if result is not None:
            return result
        store.begin(run.id, run.stored())
        with store.open_curve(run.id) as curve_file:

            def record(line: Evaluation) -> None:
                curve_file.write(json.dumps(line) + "\n")
                on_evaluation(line)

            device_type, threads = torch.device(device).type, torch.get_num_threads()
            broadcast((run.model_dump(mode="json"), str(store.root), device_type, threads))
            with keep_plans({}) as plans:
                try:
                    (curve, network), metrics = train_and_test(run, store, device, record)
                except Diverged as error:
                    environment = _environment(device, plans)
                    result = {"status": "diverged", "error": str(error), **environment}
                    store.finish(run.id, result)
                    return result
        last = curve[-1]
        result = {
            "status": "done",
            "error": "",
            "epochs": int(last["epoch"]),
            "val_top1": last["val_top1"],
            "test_top1": metrics.top1,
            "test_top5": metrics.top5,
            "test_loss": metrics.loss,
            **(
                {} if metrics.map is None else {"val_map": last["val_map"], "test_map": metrics.map}
            ),
            "train_seconds": last["seconds"],
            "images_per_second": last["samples"] / last["seconds"],
            **_environment(device, plans),
        }
        store.finish(
            run.id,
            result,
            network,
            run.network,
            metrics.correct,
            metrics.average_precision,
            code_modules(run.network.name, network) if run.code else (),
        )
        return result


def train_and_test(
    run: RunConfig, store: Store, device: str, on_evaluation: Callable[[Evaluation], None]
) -> tuple[FitResult, Metrics]:
    """Train a run and evaluate it on the test split.

    Under ``torchrun`` every rank calls this and trains on its share of each batch.

    Args:
        run: the run.
        store: where its checkpoint and its initial weights are; only rank 0 reads and writes it.
        device: the device of this process.
        on_evaluation: called with each line of the learning curve, on rank 0 only.

    Returns:
        The learning curve with the trained network, and the metrics on the test split.

    Raises:
        Diverged: the loss is no longer finite. All ranks raise it.
        RankZeroFailed: rank 0 has ended the run. The other ranks raise it.
        ValueError: the data have changed since the run was planned.
    """
    keep_freed_memory()
    dataset = load_data(run.data, draw=run.seed)
    if dataset.fingerprint != run.fingerprint:
        advice = ""
        if run.data.kind == "code":
            advice = "; it must return the same whenever it is called"
        raise FieldError(
            "data",
            run.data.name,
            "has changed since this was planned: its fingerprint is "
            f"{dataset.fingerprint}, not {run.fingerprint}{advice}",
        )

    shared = run.shared

    def train() -> FitResult:
        return fit(
            _build(run, store),
            dataset,
            run.recipe,
            seed=run.seed,
            device=device,
            precision=run.precision,
            checkpoint=store.checkpoint_path(run.id),
            identity=run.id,
            on_evaluation=on_evaluation,
            method=make_sandwich(shared) if shared else Plain(),
        )

    try:
        trained = train()
    except CheckpointMismatch as error:
        if rank() == 0:
            log.warning("%s; training starts anew", error)
        on_rank_zero(lambda: store.drop_checkpoint(run.id))
        trained = train()
    metrics = evaluate(
        trained.network,
        dataset.test,
        precision=run.precision,
        class_weights=dataset.class_weights,
        map_at=dataset.map_at,
    )
    if not math.isfinite(metrics.loss):
        raise Diverged(f"test loss is {metrics.loss}")
    return trained, metrics


def _build(run: RunConfig, store: Store) -> nn.Module:
    """The network of a run, with the weights that training starts from."""
    with seeded(run.seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the plan has already warned of layers that saturate
        if run.shared is not None:
            return Supernet(run.network, run.shared.segments, run.shared.widths)
        if run.start:
            weights = on_rank_zero(lambda: store.load_initial_weights(run.start))
            return build_with_weights(run.network, weights)
        return build(run.network)


@contextmanager
def _locked(store: Store, run_id: str) -> Iterator[None]:
    """Hold the lock of a run; warn if another process holds it for long."""
    lock = store.lock(run_id)
    try:
        lock.acquire(timeout=_LOCK_WARNING)
    except Timeout:
        log.warning("another process trains this run; waiting for its result")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _environment(device: str, plans: dict[str, Any]) -> dict[str, Any]:
    """Where and how a result is computed: device, threads, processes, CPU, versions and plans."""
    name = device_name(device) if torch.device(device).type == "cuda" else device
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        **({} if world_size() == 1 else {"processes": world_size()}),
        "processor": device_name("cpu"),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "spectrum": __version__,
        "plans": name_plans(plans),
    }


def status_and_reason(error: Exception) -> tuple[str, str]:
    """The status and the one-line reason that a result gives for an exception."""
    reason = (str(error) or type(error).__name__).splitlines()[0][:200]
    if is_out_of_memory(error):
        return "out_of_memory", f"out of memory: {reason}"
    if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
        # No later attempt would succeed, unlike on a disk that is full for a while.
        return "failed", f"{error.strerror or reason}: {error.filename or 'no file named'}"
    if isinstance(error, OSError):
        return "io_error", f"{error.strerror or reason}: {error.filename or 'no file named'}"
    return "failed", f"{type(error).__name__}: {reason}"
