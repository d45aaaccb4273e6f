"""What trackers hold of a study is what its store and its folder hold, each run and epoch once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from spectrum import StudyConfig, run_study
from spectrum.runs.store import Store
from spectrum.study.study import Interrupted
from spectrum.tracking import RunEvaluated, StudyEvent
from spectrum.tracking.values import flatten
from tests.forked import start_forked
from tests.held import Hold, hold_training
from tests.tracking.readers import TRACKERS, Recorded, read_figures, read_runs

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's own


@pytest.fixture(params=TRACKERS)
def tracker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each tracker that is installed."""
    if find_spec(request.param) is None:
        pytest.skip(f"{request.param} isn't installed; make test-trackers installs it")
    monkeypatch.setenv("WANDB_MODE", "offline")
    return str(request.param)


def check_curves(runs: dict[str, Recorded], store: Store) -> None:
    """Check that each run has each value of its learning curve once, in order."""
    for run_id, run in runs.items():
        lines = store.curve(run_id)
        assert run.curve.keys() == lines[0].keys() - {"epoch"}
        for name, values in run.curve.items():
            expected = [(line["epoch"], pytest.approx(line[name])) for line in lines]
            assert values == expected, (run.name, name)


def draw(path: Path, width: int = 5) -> bytes:
    """Draw a small figure; those of a study take long."""
    Image.new("RGBA", (width, 3)).save(path)
    return path.read_bytes()


def test_a_tracker_holds_what_the_study_holds_once(
    tracker: str, small_study: Callable[..., StudyConfig]
) -> None:
    trained = small_study(segments="1,C/2", epochs=2)
    store, folder = Store(trained.runs), trained.out / trained.name
    run_study(trained)
    figures = {stem: draw(folder / f"{stem}.png") for stem in ("differences", "learning_curves")}
    config = trained.model_copy(update={"track": (tracker,)})
    rows = run_study(config)  # all runs are in the store already
    runs = read_runs(tracker, config.out, config.name)
    assert runs.keys() == {*rows["run_id"]}
    check_curves(runs, store)
    for row in rows.to_dict("records"):
        run, result = runs[row["run_id"]], store.result(row["run_id"])
        assert result is not None
        assert run.name.replace("_", "/") == f"segments {row['segments']}, seed {row['seed']}"
        assert run.status == "done"
        numbers = {f"result/{k}": v for k, v in result.items() if isinstance(v, int | float)}
        assert run.result == pytest.approx(numbers)
        assert run.config["network.segments"] == row["segments"]
        assert float(run.config["seed"]) == row["seed"]
        assert float(run.config["costs.params"]) == row["params"]
        assert float(run.config["recipe.batch_size"]) == 256
    assert read_figures(tracker, config.out, config.name) == figures

    run_study(config)
    assert read_runs(tracker, config.out, config.name) == runs
    figures["differences"] = draw(folder / "differences.png", 6)
    grown = run_study(config.model_copy(update={"seeds": 2}))
    more = read_runs(tracker, config.out, config.name)
    assert more.keys() == {*grown["run_id"]}
    assert runs.items() <= more.items()
    check_curves(more, store)
    assert read_figures(tracker, config.out, config.name) == figures


def test_an_interrupted_run_continues_its_curve(
    tracker: str, small_study: Callable[..., StudyConfig]
) -> None:
    def interrupt(event: StudyEvent) -> None:
        if isinstance(event, RunEvaluated) and event.values["epoch"] == 2:
            raise KeyboardInterrupt

    config = small_study(track=tracker)
    with pytest.raises(Interrupted, match="interrupted, 0 of 2 runs done"):
        run_study(config, on_event=interrupt)
    (run,) = read_runs(tracker, config.out, config.name).values()
    assert [epoch for epoch, _ in run.curve["val_loss"]] == [1]
    assert (run.status, run.result) == ("", {})
    run_study(config)
    runs = read_runs(tracker, config.out, config.name)
    assert len(runs) == 2
    check_curves(runs, Store(config.runs))


def hold_with_own_service(folder: Path) -> None:
    os.environ.pop("WANDB_SERVICE", None)  # the process of W&B that belongs to the tests' process
    hold_training(folder)


def test_a_killed_run_continues_its_curve(
    tracker: str,
    small_toml: Path,
    spectrum_study: Callable[..., tuple[int, str]],
    tmp_path: Path,
) -> None:
    hold = Hold(tmp_path / "hold", 10)  # of 4 steps an epoch: in the last epoch of the first run
    process = start_forked(
        "spectrum.study",
        tmp_path / "said",
        small_toml,
        f"--track={tracker}",
        before=partial(hold_with_own_service, hold.folder),
    )
    assert process.pid is not None
    hold.wait()
    os.kill(process.pid, signal.SIGKILL)
    process.join(300)
    store = Store(tmp_path / "runs")

    status, said = spectrum_study(small_toml, f"--track={tracker}")
    assert (status, "gets no further" in said) == (0, False), said
    runs = read_runs(tracker, tmp_path / "out", "tested")
    assert len(runs) == 2
    assert {run.status for run in runs.values()} == {"done"}
    check_curves(runs, store)


def test_a_tracker_that_fails_loses_no_run(
    tracker: str,
    small_study: Callable[..., StudyConfig],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = small_study(epochs=1, track=[tracker])
    folder = config.out / config.name
    folder.mkdir(parents=True)
    if tracker == "mlflow":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    else:
        (folder / tracker).touch()
    rows = run_study(config)
    assert rows["status"].tolist() == ["done", "done"]
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1
    assert notes[0].startswith(f"note: {tracker} gets no further events, since it failed: ")
    assert "secret" not in notes[0]

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (folder / tracker).unlink(missing_ok=True)
    run_study(config)
    runs = read_runs(tracker, config.out, config.name)
    assert runs.keys() == {*rows["run_id"]}
    check_curves(runs, Store(config.runs))


def test_names_and_values_are_flat() -> None:
    nested = {"a": {"b": 1, "c": {"d": (1, 2), "e": None}}, "f": "", "g": False}
    assert flatten(nested) == {"a.b": 1, "a.c.d": "(1, 2)", "g": False}
