"""A Ray cluster that runs execute on: reached, or started on this machine, and looked over."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spectrum.study.grid import GridConfig
from spectrum.study.store import Store

if TYPE_CHECKING:
    from spectrum.study.actors import ActorTeam

__all__ = ["Cluster", "open_cluster"]

_CONNECT = 5  # seconds until a machine is taken to be away
_ANSWER = 8  # and, on top, what listens there not to be Ray
_TOKEN = "it asks for Ray's token, set RAY_AUTH_MODE=token"


@dataclass(frozen=True)
class Cluster:
    """An engine whose runs execute on the nodes of a Ray cluster.

    Attributes:
        workers: how many runs at once.
        threads: CPU threads of a run, and CPUs of the cluster that it takes.
        gpus: that it takes.
    """

    workers: int
    threads: int
    gpus: float

    def crew(self, store: Store) -> ActorTeam:
        """Processes of the cluster, to be entered as a context."""
        from spectrum.study.actors import ActorTeam

        return ActorTeam(store, self.workers, self.threads, self.gpus)


@contextmanager
def open_cluster(config: GridConfig) -> Iterator[Cluster]:
    """Connect to the cluster that a study or search asks for.

    Without an address it is the one that ``RAY_ADDRESS`` names, the one that runs on this machine,
    or else one that is started here and ends with the context. A connection that this process has
    already is taken, and kept.

    Raises:
        ValueError: Ray isn't installed, the cluster can't be reached, or it hasn't the CPUs or GPUs
            that a run needs.
    """
    # What Ray would do unasked: tell its makers of its use, and hide GPUs from who asks for none.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise ValueError("engine (='ray') needs Ray: pip install 'spectrum[ray]'") from None
    if ray.is_initialized():
        yield _look_over(ray.nodes(), config)
        return
    address = _find(config.address)
    with _silence():
        try:
            ray.init(
                address,
                include_dashboard=False if address == "local" else None,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
            )
        except (Exception, SystemExit) as error:  # it ends the process where it can't connect
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ValueError(f"{_named(config.address)} can't be joined: {reason}") from None
        try:
            yield _look_over(ray.nodes(), config)
        finally:
            ray.shutdown()


def _find(address: str | None) -> str:
    """What to tell Ray: the address, once something answers there, ``auto`` or ``local``."""
    wanted = address or os.environ.get("RAY_ADDRESS") or ""
    if address is None and wanted in ("", "auto", "local"):
        # Ray itself finds the token of a cluster on this machine.
        found = wanted != "local" and _answers("") in (None, _TOKEN)
        return "auto" if found else "local"
    host, _, port = wanted.rpartition(":")
    if not re.fullmatch(r"[^/]+:\d{1,5}", wanted):
        raise ValueError(f"{_named(address)} must be HOST:PORT of the cluster's head")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{_named(address)} can't be reached: {reason}") from None
    failure = _answers(wanted)
    if failure is not None:
        raise ValueError(f"{_named(address)} can't be reached: {failure}")
    return wanted


def _answers(address: str) -> str | None:
    """Why no cluster answers at an address, or on this machine; None if one does.

    In a process of its own, since Ray itself would try for minutes, and say so on the terminal.
    """
    program = [sys.executable, "-P", "-m", "ray.scripts.scripts", "health-check"]
    where = ["--address", address] if address else []
    try:
        asked = subprocess.run([*program, *where], capture_output=True, text=True, timeout=_ANSWER)
    except subprocess.TimeoutExpired:
        return "no Ray cluster answers there"
    if asked.returncode == 0:
        return None
    said = " ".join(asked.stderr.split())
    if "AuthenticationError" in said:
        return _TOKEN
    mismatch = re.search(r"Version mismatch.*", said)
    return mismatch.group()[:200] if mismatch else "no Ray cluster answers there"


def _named(address: str | None) -> str:
    """The address in a message."""
    if address is None and "RAY_ADDRESS" in os.environ:
        return f"address (={os.environ['RAY_ADDRESS']!r}, of RAY_ADDRESS)"
    return f"address (={address!r})"


def _look_over(nodes: list[dict[str, Any]], config: GridConfig) -> Cluster:
    """What a cluster holds, in runs."""
    rooms = [
        (node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in nodes
        if node["Alive"]
    ]
    most_cpus = max((cpus for cpus, _ in rooms), default=0)
    has_gpus = any(gpus for _, gpus in rooms)
    if config.device == "cpu":
        gpus = 0.0
    else:
        gpus = float(has_gpus) if config.gpus is None else config.gpus
    if gpus and not has_gpus:
        raise ValueError(f"gpus (={config.gpus:g}) must be 0, the cluster has none")
    if config.device == "cuda" and not gpus:
        raise ValueError("device (='cuda') must be auto or cpu, the cluster has no GPUs")
    if config.threads > most_cpus:
        raise ValueError(
            f"threads (={config.threads}) must be at most {most_cpus:g}, the CPUs of the largest "
            "node of the cluster"
        )
    places = sum(
        int(min(cpus // config.threads, own // gpus if gpus else cpus)) for cpus, own in rooms
    )
    if not places:
        raise ValueError(
            f"threads (={config.threads}) must be fewer: no node of the cluster has so many CPUs "
            "beside a GPU"
        )
    return Cluster(config.workers or places, config.threads, gpus)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep Ray from printing of lost processes and nodes, which are told as events of runs."""
    from ray._private import worker

    before = worker.print_to_stdstream
    worker.print_to_stdstream = lambda *_, **__: None
    try:
        yield
    finally:
        worker.print_to_stdstream = before
