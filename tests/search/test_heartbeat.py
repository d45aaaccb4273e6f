"""Lost trials are queued again exactly once, whenever their process was killed."""

from collections.abc import Callable

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from sqlalchemy import text

from spectrum.search import SearchConfig
from spectrum.search.heartbeat import HeartbeatThread, queue_lost_again
from spectrum.search.storage import ERROR, open_study, silence_optuna
from tests.search.processes import an_hour_passes, change

NAMES = ("entry", "exit")
SPACE = {name: CategoricalDistribution(["1", "C"]) for name in NAMES}
HALF = {"entry": SPACE["entry"]}


@pytest.fixture
def open_again(small_search: Callable[..., SearchConfig]) -> Callable[[], optuna.Study]:
    """Open the same study as another process does."""
    config = small_search()
    (config.out / config.name).mkdir(parents=True)

    def open_one() -> optuna.Study:
        with silence_optuna():
            return open_study(config, {"space": "of this test"})

    return open_one


def ask(study: optuna.Study, space: dict[str, CategoricalDistribution]) -> int:
    with silence_optuna():
        trial = study.ask(space)
    return trial._trial_id


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.get_trials()]


def look(study: optuna.Study, own: set[int] | None = None, known: set[int] | None = None) -> int:
    with silence_optuna():
        return queue_lost_again(study, own or set(), set() if known is None else known, NAMES)


def test_a_lost_trial_is_queued_once_at_its_point(open_again: Callable[[], optuna.Study]) -> None:
    killed, other, third = open_again(), open_again(), open_again()
    HeartbeatThread(killed, 1).add(ask(killed, SPACE))
    assert look(other) == 0
    an_hour_passes(other)
    assert look(other) == 1
    assert look(other) == look(third) == 0
    assert states(other) == ["FAIL", "WAITING"]
    before, after = other.get_trials()
    assert after.params == before.params
    assert after.distributions == before.distributions


def test_a_trial_killed_before_its_first_heartbeat_is_lost_too(
    open_again: Callable[[], optuna.Study],
) -> None:
    killed, other = open_again(), open_again()
    ask(killed, SPACE)
    known: set[int] = set()
    assert look(other, known=known) == 0
    an_hour_passes(other)
    assert look(other, known=known) == 0  # a heartbeat is recorded on its behalf
    an_hour_passes(other)
    assert look(other, known=known) == 1


def test_another_process_queues_a_trial_that_was_only_failed(
    open_again: Callable[[], optuna.Study],
) -> None:
    killed, other = open_again(), open_again()
    ask(killed, SPACE)
    killed.tell(0, state=TrialState.FAIL)
    assert look(other) == 1
    assert states(other) == ["FAIL", "WAITING"]


def test_what_has_failed_with_a_reason_isnt_queued(open_again: Callable[[], optuna.Study]) -> None:
    study = open_again()
    ask(study, SPACE)
    study.get_trials()
    study._storage.set_trial_user_attr(1, ERROR, "it is too large")
    study.tell(0, state=TrialState.FAIL)
    assert look(study) == 0


@pytest.mark.parametrize("queued", [False, True])
def test_an_incomplete_point_is_proposed_again(
    queued: bool, open_again: Callable[[], optuna.Study]
) -> None:
    killed, other = open_again(), open_again()
    point = {"entry": "C", "exit": "1"}
    if queued:
        killed.enqueue_trial(point)
    HeartbeatThread(killed, 1).add(ask(killed, HALF))
    an_hour_passes(other)
    assert look(other) == 1
    again = other.get_trials()[1]
    assert again.params == {}
    assert again.system_attrs.get("fixed_params") == (point if queued else None)


def test_a_failed_heartbeat_is_recorded_later(open_again: Callable[[], optuna.Study]) -> None:
    study = open_again()
    heartbeat = HeartbeatThread(study, 0.01)
    change(study, "ALTER TABLE trial_heartbeats RENAME TO away")
    trial_id = ask(study, SPACE)
    heartbeat.add(trial_id)
    with pytest.raises(StorageInternalError):
        heartbeat.beat()
    with heartbeat:
        change(study, "ALTER TABLE away RENAME TO trial_heartbeats")
        for _ in range(1000):
            with study._storage._backend.engine.connect() as connection:
                found = connection.execute(text("SELECT trial_id FROM trial_heartbeats")).all()
            if found:
                break
    assert found == [(trial_id,)]
