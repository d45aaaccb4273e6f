"""One run, from its configuration to its result in the store."""

from __future__ import annotations

import json
import logging
import platform
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import torch
from filelock import Timeout

from spectrum.data import load_data
from spectrum.networks import build
from spectrum.study.plan import RunConfig
from spectrum.study.solve import is_out_of_memory
from spectrum.study.start import started
from spectrum.study.store import Store
from spectrum.training import Diverged, Evaluation, Fitted, Metrics, evaluate, fit
from spectrum.training.processes import announce, count, from_first
from spectrum.training.seeding import seeded

__all__ = ["REPEATABLE", "Stopped", "attempt", "execute", "explain", "take_part"]

log = logging.getLogger(__name__)

_PATIENCE = 10  # seconds until a wait for another process is told

REPEATABLE = partial(
    torch.backends.cudnn.flags, enabled=True, benchmark=False, deterministic=True, allow_tf32=False
)
"""On a GPU: convolutions that repeat, and float32 that isn't rounded to TF32."""


class Stopped(Exception):
    """A run isn't wanted any longer; its checkpoint stays."""


def attempt(
    run: RunConfig, store: Store, device: str, on_evaluation: Callable[[Evaluation], None]
) -> dict[str, Any]:
    """Execute a run; whatever goes wrong becomes a result with a status and a reason.

    ``diverged`` is final and kept in the store. ``out_of_memory``, ``io_error`` and ``failed``
    are not, so that the run is tried again when it is next asked for. The traceback of a failure
    that has no other name is kept in the run's folder. Where ``on_evaluation`` raises ``Stopped``
    the run ends as ``stopped``, and goes on from its checkpoint when it is next asked for.
    """
    try:
        with REPEATABLE():
            return execute(run, store, device, on_evaluation)
    except Stopped:
        return {"status": "stopped", "error": "not wanted any longer"}
    except Exception as error:
        status, reason = explain(error)
        if status == "failed":
            with suppress(OSError):
                path = store.error(run.id)
                path.write_text(traceback.format_exc(), encoding="utf-8")
                reason = f"{reason} (see {path})"
        return {"status": status, "error": reason}


def execute(
    run: RunConfig, store: Store, device: str, on_evaluation: Callable[[Evaluation], None]
) -> dict[str, Any]:
    """The result of a run: from the store, or by training, from its checkpoint if there is one.

    Args:
        run: what to train.
        store: where its files go; a lock there keeps other processes from training it as well.
        device: where to train.
        on_evaluation: called with each line of the learning curve.
    """
    with _alone(store, run.id):
        result = store.result(run.id)
        if result is not None:
            return result
        store.begin(run.id, run.canonical())
        with store.open_curve(run.id) as curve_file:

            def note(line: Evaluation) -> None:
                curve_file.write(json.dumps(line) + "\n")
                on_evaluation(line)

            kind, threads = torch.device(device).type, torch.get_num_threads()
            announce((run.model_dump(mode="json"), str(store.root), kind, threads))
            try:
                (curve, trained), tested = take_part(run, store, device, note)
            except Diverged as error:
                result = {"status": "diverged", "error": str(error), **_where(device)}
                store.finish(run.id, result)
                return result
        last = curve[-1]
        result = {
            "status": "done",
            "error": "",
            "epochs": int(last["epoch"]),
            "val_top1": last["val_top1"],
            "test_top1": tested.top1,
            "test_top5": tested.top5,
            "test_loss": tested.loss,
            **({} if tested.map is None else {"val_map": last["val_map"], "test_map": tested.map}),
            "train_seconds": last["seconds"],
            "images_per_second": last["samples"] / last["seconds"],
            **_where(device),
        }
        store.finish(run.id, result, trained, run.network, tested.correct, tested.precision)
        return result


def take_part(
    run: RunConfig, store: Store, device: str, note: Callable[[Evaluation], None]
) -> tuple[Fitted, Metrics]:
    """Train a run and measure it on the test split; several processes may each take their part.

    Args:
        run: what to train.
        store: where its checkpoint and the weights that it starts from are; of several processes,
            the first one's alone is used.
        device: of this process.
        note: called with each line of the learning curve, in the first process.

    Raises:
        Diverged: the loss is no longer finite; in all processes.
        Abandoned: the first process has ended the run.
        ValueError: the data have changed since the run was planned.
    """
    dataset = load_data(run.data)
    if dataset.fingerprint != run.fingerprint:
        always = ""
        if run.data.kind == "code":
            always = "; it must return the same whenever it is called"
        raise ValueError(
            f"data (={run.data.name}) has changed since this was planned: its fingerprint is "
            f"{dataset.fingerprint}, not {run.fingerprint}{always}"
        )
    with seeded(run.seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the plan said what a point saturates
        if run.start:
            network = started(run.network, from_first(lambda: store.start(run.start)))
        else:
            network = build(run.network)
    fitted = fit(
        network,
        dataset,
        run.recipe,
        seed=run.seed,
        device=device,
        precision=run.precision,
        checkpoint=store.checkpoint(run.id),
        on_evaluation=note,
    )
    tested = evaluate(
        fitted.network,
        dataset.test,
        precision=run.precision,
        class_weights=dataset.class_weights,
        map_at=dataset.map_at,
    )
    return fitted, tested


@contextmanager
def _alone(store: Store, run_id: str) -> Iterator[None]:
    """Hold the lock of a run, and say so where another process has it for long."""
    lock = store.lock(run_id)
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        log.warning("another process trains this run, its result is waited for")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _where(device: str) -> dict[str, Any]:
    kind = torch.device(device)
    name = torch.cuda.get_device_name(kind) if kind.type == "cuda" else device
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        **({} if count() == 1 else {"processes": count()}),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def explain(error: Exception) -> tuple[str, str]:
    """The status and the one-line reason of a failure."""
    reason = (str(error) or type(error).__name__).splitlines()[0][:200]
    if is_out_of_memory(error):
        return "out_of_memory", f"out of memory: {reason}"
    if isinstance(error, OSError):
        return "io_error", f"{error.strerror or reason}: {error.filename or 'no file named'}"
    return "failed", f"{type(error).__name__}: {reason}"
