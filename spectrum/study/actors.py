"""Runs on a Ray cluster: processes of it that are handed one run at a time, as a ``Team``'s are.

The files of a run come back after every evaluation, and only this process writes the store: a run
whose node is lost goes on from its last epoch on another one, and a study that was interrupted is
resumed by any engine.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import ray
import safetensors.torch
from filelock import FileLock, Timeout
from ray.exceptions import RayError

from spectrum.study.events import Event
from spectrum.study.node import News, Performer
from spectrum.study.plan import RunConfig
from spectrum.study.run import explain
from spectrum.study.store import Store
from spectrum.study.team import import_paths, worker_variables
from spectrum.training.checkpoint import write_whole

__all__ = ["ActorTeam"]

_ATTEMPTS = 3  # of a run whose process or node is lost, without an epoch more than before
_STOPPED = ("stopped", "not wanted any longer")
_TURN = 0.5  # seconds at most until locks are tried again
_FAREWELL = 2  # seconds for processes to remove their files


@dataclass
class _Hand:
    """A process of the cluster, or one that it has no place for yet."""

    actor: Any
    call: Any  # for its news
    is_there: bool = False
    run: RunConfig | None = None
    begun: bool = False


class ActorTeam:
    """Processes of a cluster that execute runs as they are submitted; used as a context.

    What a ``Team`` promises holds here too. While a run is being executed its lock in the store is
    held here, so that no two studies train it. A process without a run is given up, so that
    others on the cluster have its place. Leaving the context ends every process at once.

    Args:
        store: where the files of runs go.
        workers: how many processes at most.
        threads: CPU threads, and CPUs of the cluster, of each.
        gpus: of each; several share one by fractions.
    """

    def __init__(self, store: Store, workers: int, threads: int, gpus: float) -> None:
        self.workers = workers
        self._store = store
        self._threads = threads
        self._performer = ray.remote(Performer).options(
            num_cpus=threads,
            num_gpus=gpus,
            max_concurrency=4,  # a call each of its methods
            runtime_env={"env_vars": worker_variables(threads)},
        )
        self._device = "cuda:0" if gpus else "cpu"
        self._hands: list[_Hand] = []
        self._leaving: dict[Any, Any] = {}
        self._waiting: deque[RunConfig] = deque()
        self._inbox: deque[Event] = deque()
        self._locks: dict[str, FileLock] = {}
        self._starts: dict[str, Any] = {}
        self._told: set[str] = set()
        self._unwanted: set[str] = set()
        self._epochs: dict[str, float] = {}
        self._setbacks: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for hand in list(self._hands):
                self._dismiss(hand)
            left = list(self._leaving.values())
            if left:
                ray.wait(left, num_returns=len(left), timeout=_FAREWELL)
        finally:
            for actor in [*self._leaving, *(hand.actor for hand in self._hands)]:
                ray.kill(actor)
            for lock in self._locks.values():
                lock.release()

    @property
    def unfinished(self) -> int:
        """How many runs are waiting or being executed, or have finished unheard."""
        finished = sum(event.kind == "finished" for event in self._inbox)
        return len(self._waiting) + sum(hand.run is not None for hand in self._hands) + finished

    def submit(self, run: RunConfig) -> None:
        """Execute a run as soon as there is a place for it."""
        self._unwanted.discard(run.id)
        self._waiting.append(run)
        self._hand_out()

    def stop(self, run_id: str) -> None:
        """Ask for a run to be stopped at the end of its epoch, with its checkpoint.

        It finishes with the status ``stopped``, unless it is in its last epoch when it hears of it.
        One that hasn't begun is stopped at once.
        """
        self._unwanted.add(run_id)
        for hand in self._hands:
            if hand.run is not None and hand.run.id == run_id:
                if hand.begun:
                    hand.actor.stop.remote(run_id)
                    return
                self._dismiss(hand)
                self._conclude(run_id, *_STOPPED)
                return
        for run in list(self._waiting):
            if run.id == run_id:
                self._waiting.remove(run)
                self._conclude(run_id, *_STOPPED)

    def next_event(self, timeout: float | None = None) -> Event | None:
        """The next thing that happened to a run; None when ``timeout`` seconds have passed."""
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        while True:
            self._hand_out()
            if self._inbox:
                return self._inbox.popleft()
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self._listen(min(left, _TURN))

    def _listen(self, seconds: float) -> None:
        calls = {hand.call: hand for hand in self._hands}
        if not calls:
            time.sleep(seconds)
            return
        ready, _ = ray.wait(list(calls), timeout=seconds)
        for call in ready:
            hand = calls[call]
            try:
                found: list[News] = ray.get(call)
            except RayError as error:
                self._bury(hand, error)
                continue
            hand.is_there, hand.call = True, hand.actor.news.remote()
            for news in found:
                self._take(hand, news)
        if not ready:
            for hand in [hand for hand in self._hands if hand.run is None]:
                self._dismiss(hand)

    def _hand_out(self) -> None:
        for run in list(self._waiting):
            free = [hand for hand in self._hands if hand.run is None]
            if not free and len(self._hands) >= self.workers:
                return
            try:
                if not self._claim(run.id):
                    continue
                self._waiting.remove(run)
                result = self._store.result(run.id)
                if result is None:
                    self._execute(run, free[0] if free else None)
                else:  # another process has been quicker
                    self._release(run.id)
                    self._inbox += [Event("started", run.id), Event("finished", run.id, result)]
            except OSError as error:
                if run in self._waiting:
                    self._waiting.remove(run)
                self._conclude(run.id, *explain(error))

    def _claim(self, run_id: str) -> bool:
        """Take the lock of a run, unless another process has it."""
        lock = self._store.lock(run_id)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            if run_id not in self._told:
                self._told.add(run_id)
                text = "another process trains this run, its result is waited for"
                self._inbox.append(Event("note", run_id, {"text": text}))
            return False
        self._locks[run_id] = lock
        return True

    def _release(self, run_id: str) -> None:
        if run_id in self._locks:
            self._locks.pop(run_id).release()

    def _execute(self, run: RunConfig, hand: _Hand | None) -> None:
        self._store.begin(run.id, run.canonical())
        path = self._store.checkpoint(run.id)
        checkpoint = path.read_bytes() if path.exists() else None
        start = self._start(run.start) if run.start else None
        if hand is None:
            actor = self._performer.remote(os.getcwd(), import_paths(), self._threads, self._device)
            hand = _Hand(actor, actor.news.remote())
            self._hands.append(hand)
        hand.run, hand.begun = run, False
        fields, home = run.model_dump(mode="json"), str(self._store.root)
        hand.actor.execute.remote(run.id, fields, home, checkpoint, start)

    def _start(self, fingerprint: str) -> Any:
        """Weights to start from, put where all nodes can fetch them once."""
        if fingerprint not in self._starts:
            tensors = self._store.start(fingerprint)
            self._starts[fingerprint] = ray.put(safetensors.torch.save(tensors))
        return self._starts[fingerprint]

    def _take(self, hand: _Hand, news: News) -> None:
        """Write what is new of a run, then let what happened be told."""
        event, run_id = news.event, news.run_id
        if hand.run is None or hand.run.id != run_id:
            return  # of a run whose files couldn't be written
        hand.begun = True
        try:
            for name, content in news.files.items():  # a result is the last of them
                path = self._store.folder(run_id) / name
                write_whole(path, lambda file, content=content: file.write(content))  # type: ignore[misc]
            if "result.json" in news.files:
                self._store.drop_checkpoint(run_id)
        except OSError as error:
            self._dismiss(hand)
            self._conclude(run_id, *explain(error))
            return
        if event is None:
            return
        if event.kind == "evaluation" and event.values["epoch"] > self._epochs.get(run_id, 0):
            self._epochs[run_id] = event.values["epoch"]
            del self._setbacks[run_id]
        elif event.kind == "finished":
            hand.run = None
            self._release(run_id)
            # After a failure that nobody foresaw a GPU's context may be of no more use.
            if event.values["status"] == "failed":
                self._dismiss(hand)
        self._inbox.append(event)

    def _bury(self, hand: _Hand, error: RayError) -> None:
        """What the loss of a process or a node means to its run."""
        run = hand.run
        self._dismiss(hand)
        if run is None:
            return
        if run.id in self._unwanted:
            self._conclude(run.id, *_STOPPED)
            return
        cause = _cause(error)
        self._setbacks[run.id] += 1
        if self._setbacks[run.id] == _ATTEMPTS:
            del self._setbacks[run.id]
            self._conclude(run.id, "failed", cause)
            return
        self._release(run.id)
        self._waiting.appendleft(run)
        text = f"{cause}; it goes on from its last epoch"
        self._inbox.append(Event("note", run.id, {"text": text}))

    def _conclude(self, run_id: str, status: str, reason: str) -> None:
        self._release(run_id)
        self._inbox.append(Event("finished", run_id, {"status": status, "error": reason}))

    def _dismiss(self, hand: _Hand) -> None:
        self._hands.remove(hand)
        hand.run = None
        if hand.is_there:
            self._leaving[hand.actor] = hand.actor.leave.remote()
        else:
            ray.kill(hand.actor)


def _cause(error: RayError) -> str:
    """Why a process of the cluster is no more, in a few words."""
    said = str(error)
    if "its node has died" in said:
        return "its node was lost"
    if "process has died" in said:
        return "its process on the cluster has died"
    return f"its process on the cluster is lost: {said.strip().splitlines()[-1].strip()[:200]}"
