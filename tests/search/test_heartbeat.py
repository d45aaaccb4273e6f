"""Lost trials are queued again exactly once, whenever their process was killed."""

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from sqlalchemy import text

from spectrum.search import SearchConfig
from spectrum.search.heartbeat import HeartbeatThread, queue_lost_again
from spectrum.search.storage import open_study, silence_optuna
from tests.search.processes import an_hour_passes, change, wait_for

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


class Looking:
    """A process that looks for lost trials."""

    def __init__(self, study: optuna.Study) -> None:
        self.study = study
        self.heartbeat = HeartbeatThread(study, 1)

    def look(self) -> int:
        with silence_optuna():
            return queue_lost_again(self.study, self.heartbeat, NAMES)


def test_a_lost_trial_is_queued_once_at_its_point(open_again: Callable[[], optuna.Study]) -> None:
    killed, other, third = open_again(), Looking(open_again()), Looking(open_again())
    HeartbeatThread(killed, 1).add(ask(killed, SPACE))
    assert other.look() == 0
    an_hour_passes(other.study)
    assert other.look() == 1
    assert other.look() == third.look() == 0
    before, after = other.study.get_trials()
    assert (before.state, after.state) == (TrialState.FAIL, TrialState.WAITING)
    assert after.params == before.params
    assert after.distributions == before.distributions


def test_a_trial_killed_before_its_first_heartbeat_is_lost_too(
    open_again: Callable[[], optuna.Study],
) -> None:
    killed, other = open_again(), Looking(open_again())
    ask(killed, SPACE)
    an_hour_passes(other.study)
    assert other.look() == 0  # a heartbeat is recorded on its behalf
    an_hour_passes(other.study)
    assert other.look() == 1


@pytest.mark.parametrize("queued", [False, True])
def test_an_incomplete_point_is_proposed_again(
    queued: bool, open_again: Callable[[], optuna.Study]
) -> None:
    killed, other = open_again(), Looking(open_again())
    point = {"entry": "C", "exit": "1"}
    if queued:
        killed.enqueue_trial(point)
    HeartbeatThread(killed, 1).add(ask(killed, HALF))
    an_hour_passes(other.study)
    assert other.look() == 1
    again = other.study.get_trials()[1]
    assert again.params == {}
    assert again.system_attrs.get("fixed_params") == (point if queued else None)


def test_a_failed_heartbeat_is_recorded_later(open_again: Callable[[], optuna.Study]) -> None:
    study = open_again()

    def recorded() -> list[Any]:
        with study._storage._backend.engine.connect() as connection:
            return [*connection.execute(text("SELECT trial_id FROM trial_heartbeats"))]

    heartbeat = HeartbeatThread(study, 0.01)
    change(study, "ALTER TABLE trial_heartbeats RENAME TO away")
    trial_id = ask(study, SPACE)
    heartbeat.add(trial_id)
    with pytest.raises(StorageInternalError):
        heartbeat.beat()
    with heartbeat:
        change(study, "ALTER TABLE away RENAME TO trial_heartbeats")
        wait_for(recorded)
    assert recorded() == [(trial_id,)]
