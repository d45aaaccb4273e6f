"""Which failures of a run are retried, how often and when: one policy for all executors."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

# Seconds to wait before each new attempt of a run, by what has ended the last one.
_AFTER_DEATHS = (0, 0)
_AFTER_WRITE_FAILURES = (5, 10, 20, 40, 60, 60, 60, 60, 60, 60)


@dataclass(frozen=True)
class Retry:
    """A new attempt of a run.

    Attributes:
        pause: the seconds to wait before it.
        advice: what a note to the user says of it.
    """

    pause: float
    advice: str


class RetryPolicy:
    """Says which runs are retried after a failure. It counts the failures of each run.

    Every attempt continues from the run's last checkpoint, and a newly completed epoch sets the
    counts of a run to 0.

    - A run whose worker has died is retried at once. It fails after three deaths.
    - A run whose files couldn't be written (``io_error``) is retried after a pause, if the executor
      was asked for that: searches wait for a full disk, studies report it. It fails after eleven
      attempts.
    - Everything else is not retried. ``out_of_memory`` and ``failed`` would end in the same way
      again; the next study or search that asks for the run tries it again.

    Args:
        retry_writes: whether to retry runs whose files couldn't be written.
    """

    def __init__(self, retry_writes: bool = False) -> None:
        self._pauses: dict[str, tuple[int, ...]] = {"death": _AFTER_DEATHS}
        if retry_writes:
            self._pauses["io_error"] = _AFTER_WRITE_FAILURES
        self._failures: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._epochs: dict[str, float] = {}  # the most that each run has completed

    def on_epoch(self, run_id: str, epoch: float) -> None:
        """Take note that a run has completed an epoch, or reports it again after a retry."""
        if epoch > self._epochs.get(run_id, 0):
            self._epochs[run_id] = epoch
            self._failures.pop(run_id, None)

    def after(self, run_id: str, failure: str) -> Retry | None:
        """Decide whether a run that has ended is retried.

        Args:
            run_id: the id of the run.
            failure: ``"death"`` if its worker has died, otherwise the status of its result.

        Returns:
            The new attempt, or None if the run has finished.
        """
        pauses, count = self._pauses.get(failure, ()), self._failures[run_id][failure]
        if count == len(pauses):
            del self._failures[run_id]  # the run may be submitted again
            return None
        self._failures[run_id][failure] += 1
        if pauses[count] == 0:
            return Retry(0, "it continues from its last checkpoint")
        return Retry(pauses[count], f"tried again in {pauses[count]} s")
