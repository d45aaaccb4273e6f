"""The policy of retries, and how an executor follows it, with made-up workers and no training."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spectrum.executors.base import Executor, Output, Worker
from spectrum.executors.local import LocalEngine
from spectrum.executors.retry import RetryPolicy
from spectrum.runs.config import RunConfig
from spectrum.runs.events import RunEvent
from spectrum.runs.store import Store

PARTS = {"network": {}, "data": {}, "recipe": {}, "fingerprint": "made up"}
RUNS = [RunConfig(**PARTS, seed=seed) for seed in range(3)]
DONE = {"status": "done", "error": ""}
FULL_DISK = {"status": "io_error", "error": "No space left on device: x"}


class FakeWorker(Worker):
    """A worker whose messages a test sends."""

    def __init__(self, output: Output) -> None:
        super().__init__(output)
        self.stopped: list[str] = []
        self.has_ended = False

    def _listen(self) -> None: ...

    def execute(self, run: RunConfig) -> None: ...

    def stop(self, run_id: str) -> None:
        self.stopped.append(run_id)

    def end(self) -> None:
        self.has_ended = True

    def die(self) -> None:
        self._send("its process was killed")

    def report(self, kind: str, **values: object) -> None:
        assert self.run is not None
        self._send(RunEvent(kind, self.run.id, values))  # type: ignore[arg-type]


class FakeExecutor(Executor[LocalEngine, FakeWorker]):
    """An executor of these workers."""

    @property
    def pool(self) -> list[FakeWorker]:
        return self._pool

    def _new_worker(self) -> FakeWorker:
        return FakeWorker(self._output)

    def events(self) -> list[tuple[str, object]]:
        """The kind and the first value of all events so far."""
        events = iter(lambda: self.next_event(0), None)
        return [(event.kind, next(iter(event.values.values()))) for event in events]


@pytest.fixture
def executor() -> Iterator[FakeExecutor]:
    engine = LocalEngine(["cpu"], workers=2, threads=1)
    with FakeExecutor(engine, Store("unused"), retry_writes=True) as executor:
        yield executor


def test_three_deaths_without_a_new_epoch_are_a_failure(executor: FakeExecutor) -> None:
    note = ("note", "its process was killed; it continues from its last checkpoint")
    executor.submit(RUNS[0])
    deaths: list[object] = []
    for epoch in (1, 1, 2, 2, 2):  # a new worker reports the checkpoint's epoch again
        (worker,) = executor.pool
        worker.report("evaluation", epoch=epoch)
        worker.die()
        deaths += executor.events()[1:]
        assert worker.has_ended
    assert deaths == [note] * 4 + [("finished", "failed")]
    assert executor.unfinished == len(executor.pool) == 0
    executor.submit(RUNS[0])  # another try counts anew
    executor.pool[0].die()
    assert executor.events() == [note]


def test_only_write_failures_are_retried_besides_and_only_where_asked_for() -> None:
    assert RetryPolicy().after("a", "io_error") is None
    policy = RetryPolicy(retry_writes=True)
    retries = [policy.after("a", "io_error") for _ in range(11)]
    pauses = [retry and retry.pause for retry in retries]
    assert pauses == [5, 10, 20, 40, *[60] * 6, None]
    for status in ("done", "diverged", "stopped", "failed", "out_of_memory"):
        assert policy.after("b", status) is None


def test_workers_are_kept_unless_they_fail_or_die_idle(executor: FakeExecutor) -> None:
    for run in RUNS:
        executor.submit(run)
    first, second = executor.pool
    assert [worker.run for worker in executor.pool] == RUNS[:2]
    first.report("finished", **DONE)
    assert executor.events() == [("finished", "done")]
    assert first.run == RUNS[2]
    second.report("finished", status="failed", error="a bug")
    first.report("finished", **DONE)
    assert executor.events() == [("finished", "failed"), ("finished", "done")]
    assert executor.pool == [first]
    first.die()
    assert executor.events() == []
    assert executor.pool == []


def test_a_run_whose_files_cannot_be_written_waits_for_its_pause(
    executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor.submit(RUNS[0])
    executor.pool[0].report("finished", **FULL_DISK)
    note = "No space left on device: x; tried again in 5 s"
    assert executor.events() == [("note", note)]
    assert executor.pool[0].run is None
    now = executor._not_before[RUNS[0].id]
    monkeypatch.setattr("spectrum.executors.base.time.monotonic", lambda: now)
    assert executor.next_event(0) is None
    assert executor.pool[0].run == RUNS[0]


def test_a_run_that_is_to_be_stopped_is_not_retried(executor: FakeExecutor) -> None:
    for run in RUNS:
        executor.submit(run)
    for run in RUNS:
        executor.stop(run.id)
    assert executor.events() == [("finished", "stopped")]  # the one that was waiting
    first, second = executor.pool
    assert [worker.stopped for worker in (first, second)] == [[RUNS[0].id], [RUNS[1].id]]
    first.die()
    second.report("finished", **FULL_DISK)
    assert executor.events() == [("finished", "stopped")] * 2
    executor.submit(RUNS[0])  # the request was for the earlier attempt
    second.die()
    assert [kind for kind, _ in executor.events()] == ["note"]


def test_a_worker_that_cannot_be_started_is_a_failed_run(
    executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> FakeWorker:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(executor, "_new_worker", refuse)
    monkeypatch.setattr("spectrum.executors.retry._AFTER_WRITE_FAILURES", ())
    executor._retries = RetryPolicy(retry_writes=True)
    executor.submit(RUNS[0])
    assert executor.events() == [("finished", "io_error")]
