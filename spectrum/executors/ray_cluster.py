"""Connects to a Ray cluster or starts one on this machine, and checks what runs need of it."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from spectrum.errors import FieldError
from spectrum.executors.base import EngineConfig

if TYPE_CHECKING:
    from spectrum.executors.ray import RayEngine

_CONNECT_TIMEOUT = 5  # seconds
_HEALTH_CHECK_TIMEOUT = 8  # seconds; a server that isn't Ray may never answer
_NEEDS_TOKEN = "it asks for Ray's token, set RAY_AUTH_MODE=token"


@contextmanager
def open_ray(config: EngineConfig) -> Iterator[RayEngine]:
    """Connect to the cluster that a study or search asks for.

    Without an address that is the cluster that ``RAY_ADDRESS`` names, or one that runs on this
    machine already, or one that is started here and ends with the context. If this process is
    connected to a cluster already, that connection is used and stays open.

    Raises:
        ValueError: Ray isn't installed, the cluster can't be reached, or it doesn't have the CPUs
            or GPUs that a run needs.
    """
    # By default Ray sends usage statistics, and hides all GPUs from actors that reserve none.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        needed = "needs Ray: pip install 'segment-spectrum[ray]'"
        raise FieldError("engine", "ray", needed) from None
    if ray.is_initialized():
        yield _make_engine(ray.nodes(), config)
        return
    address = _find_cluster(config.address)
    with _ray_messages_suppressed():
        try:
            ray.init(
                address,
                include_dashboard=False if address == "local" else None,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
            )
        except (Exception, SystemExit) as error:  # Ray exits if it can't connect
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise _address_error(config.address, f"can't be joined: {reason}") from None
        try:
            yield _make_engine(ray.nodes(), config)
        finally:
            ray.shutdown()


def _find_cluster(address: str | None) -> str:
    """The address for ``ray.init``: one where a cluster answers, ``auto`` or ``local``."""
    requested = address or os.environ.get("RAY_ADDRESS") or ""
    if address is None and requested in ("", "auto", "local"):
        # For a cluster on this machine Ray finds the token itself.
        found = requested != "local" and _check_health("") in (None, _NEEDS_TOKEN)
        return "auto" if found else "local"
    host, _, port = requested.rpartition(":")
    if not re.fullmatch(r"[^/]+:\d{1,5}", requested):
        raise _address_error(address, "must be HOST:PORT of the cluster's head")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _address_error(address, f"can't be reached: {reason}") from None
    problem = _check_health(requested)
    if problem is not None:
        raise _address_error(address, f"can't be reached: {problem}")
    return requested


def _check_health(address: str) -> str | None:
    """Why no cluster answers at an address (on this machine for ""); None if one does.

    This calls Ray's command in a process, since ``ray.init`` itself would try for minutes and
    write to the terminal.
    """
    program = [sys.executable, "-P", "-m", "ray.scripts.scripts", "health-check"]
    options = ["--address", address] if address else []
    try:
        check = subprocess.run(
            [*program, *options], capture_output=True, text=True, timeout=_HEALTH_CHECK_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return "no Ray cluster answers there"
    if check.returncode == 0:
        return None
    errors = " ".join(check.stderr.split())
    if "AuthenticationError" in errors:
        return _NEEDS_TOKEN
    mismatch = re.search(r"Version mismatch.*", errors)
    return mismatch.group()[:200] if mismatch else "no Ray cluster answers there"


def _address_error(address: str | None, allowed: str) -> FieldError:
    """An error about the address that was given, or about the environment variable for it."""
    if address is None and "RAY_ADDRESS" in os.environ:
        return FieldError("RAY_ADDRESS", os.environ["RAY_ADDRESS"], allowed)
    return FieldError("address", address, allowed)


def _make_engine(nodes: list[dict[str, Any]], config: EngineConfig) -> RayEngine:
    """Make the engine of a cluster, with as many workers as its nodes have room for.

    Args:
        nodes: what ``ray.nodes()`` returns.
        config: the study or search.

    Raises:
        ValueError: no node has the CPUs and GPUs that a run needs.
    """
    resources = [
        (node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in nodes
        if node["Alive"]
    ]
    most_cpus = max((cpus for cpus, _ in resources), default=0)
    has_gpus = any(gpus for _, gpus in resources)
    if config.device == "cpu":
        gpus = 0.0
    else:
        gpus = float(has_gpus) if config.gpus is None else config.gpus
    if gpus and not has_gpus:
        raise FieldError("gpus", config.gpus, "must be 0, the cluster has none")
    if config.device == "cuda" and not gpus:
        raise FieldError("device", config.device, "must be auto or cpu, the cluster has no GPUs")
    if config.threads > most_cpus:
        raise FieldError(
            "threads",
            config.threads,
            f"must be at most {most_cpus:g}, the CPUs of the largest node of the cluster",
        )
    capacity = sum(
        int(min(cpus // config.threads, node_gpus // gpus if gpus else cpus))
        for cpus, node_gpus in resources
    )
    if not capacity:
        raise FieldError(
            "threads",
            config.threads,
            "must be fewer: no node of the cluster has so many CPUs beside a GPU",
        )
    from spectrum.executors.ray import RayEngine  # it imports ray, which may not be installed

    return RayEngine(config.workers or capacity, config.threads, gpus)


@contextmanager
def _ray_messages_suppressed() -> Iterator[None]:
    """Keep Ray from printing that processes or nodes are lost; events of runs report that."""
    from ray._private import worker

    before = worker.print_to_stdstream
    worker.print_to_stdstream = lambda *_, **__: None
    try:
        yield
    finally:
        worker.print_to_stdstream = before
