"""What a machine can do to a search: no room, no memory, a database away, files damaged."""

import io
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from optuna.trial import TrialState
from rich.console import Console

from spectrum import SearchConfig, run_search
from spectrum.study.grid import read_toml
from tests.search.postgres import PostgresServer
from tests.search.processes import (
    Watch,
    is_over,
    read_trials,
    run_undisturbed,
    sqlite,
    start_driver,
    wait_for,
    weights,
    workers_of,
    write_toml,
)


@contextmanager
def no_room(runs: Path) -> Iterator[Callable[[], None]]:
    """A store on a disk too small for a checkpoint; gives what makes room.

    Where no disk may be mounted, files of this process's workers can't grow instead.
    """
    runs.mkdir()
    disk = ["mount", "-t", "tmpfs", "-o"]
    if subprocess.run([*disk, "size=40k", "none", runs], capture_output=True).returncode == 0:
        try:
            yield lambda: subprocess.run([*disk, "remount,size=40m", "none", runs], check=True)
        finally:
            subprocess.run(["umount", runs], check=True)
        return

    def limit(size: int) -> None:
        wait_for(lambda: workers_of(os.getpid()))
        for worker in workers_of(os.getpid()):
            _, hard = resource.prlimit(worker, resource.RLIMIT_FSIZE)
            resource.prlimit(worker, resource.RLIMIT_FSIZE, (size, hard))

    with ThreadPoolExecutor(1) as pool:
        limited = pool.submit(limit, 8_000)
        yield lambda: limit(resource.RLIM_INFINITY)
        limited.result()


def test_a_full_disk_is_said_and_waited_for(tmp_path: Path) -> None:
    config = SearchConfig(**read_toml(write_toml(tmp_path)))
    said = io.StringIO()
    with no_room(config.runs) as make_room, ThreadPoolExecutor(1) as pool:

        def help_out() -> None:
            wait_for(lambda: "tried again in 5 s" in said.getvalue())
            make_room()

        helped = pool.submit(help_out)
        found = run_search(config, console=Console(file=said))
        helped.result()
        assert len(weights(config.runs)) == len(found.trials)
    (line,) = [line for line in said.getvalue().splitlines() if "tried again" in line]
    assert line.startswith("segments 1: ")
    assert "No space left on device: " in line or "File too large: " in line
    assert found.trials["state"].tolist() == ["done"] * 3
    assert is_over(read_trials(sqlite(tmp_path)))


def test_two_drivers_outlast_a_database_that_goes_away(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    shared = (write_toml(tmp_path), "--storage", postgres_server.url)
    runs, folders = tmp_path / "runs", (tmp_path / "first", tmp_path / "second")
    with (
        Watch(runs) as watch,
        start_driver(tmp_path / "a", *shared, "--out", folders[0]) as first,
        start_driver(tmp_path / "b", *shared, "--out", folders[1]) as second,
    ):
        wait_for(lambda: len(list(runs.glob("*/checkpoint.pt"))) == 2)
        postgres_server.stop()
        try:
            for driver in (first, second):
                wait_for(lambda driver=driver: "the storage can't be reached (" in driver.said)
            time.sleep(3 + 1)  # longer than a trial may be silent
        finally:
            postgres_server.start()
        assert first.end() == 0, first.said
        assert second.end() == 0, second.said
    for driver in (first, second):
        assert driver.said.count("the storage can't be reached (") == 1
        assert driver.said.count("the storage is back") == 1
        assert "Traceback" not in driver.said
        assert "taken up again" not in driver.said  # those who waited for it weren't dead
    assert is_over(read_trials(postgres_server.url))
    assert weights(runs) == run_undisturbed(tmp_path / "undisturbed")
    assert watch.twice() == []
    winners = [folder / "tested" / "winner" / "config.json" for folder in folders]
    assert winners[0].read_text() == winners[1].read_text()


def test_a_damaged_result_is_said_and_its_run_done_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = run_undisturbed(tmp_path)
    config = SearchConfig(**read_toml(write_toml(tmp_path)))
    results = sorted(config.runs.glob("*/result.json"))
    kept = {path: path.stat().st_mtime_ns for path in results[1:]}
    results[0].write_text('{"status": "do')
    found = run_search(config)
    said = " ".join(capfd.readouterr().err.split())
    assert f"{results[0]} is damaged, the run is done again" in said
    assert found.trials["state"].tolist() == ["done"] * 3
    assert weights(config.runs) == before
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_point_without_memory_has_failed_and_the_others_go_on(tmp_path: Path) -> None:
    toml = write_toml(tmp_path)
    # Layers of the second width take from 12 to 400 GB.
    toml.write_text(toml.read_text().replace("width = 0.2", "width = [0.2, 1000]"))
    with start_driver(tmp_path / "said", toml, "--per", "network", "--trials", 4) as driver:
        resource.prlimit(driver.process.pid, resource.RLIMIT_AS, (8 << 30, 8 << 30))
        assert driver.end() == 1, driver.said
    assert "2 runs failed, the first: out_of_memory: out of memory: " in driver.said
    assert "Traceback" not in driver.said
    trials = read_trials(sqlite(tmp_path))
    states = {(t.params["segments"], t.params["width"]): t.state for t in trials}
    assert states == {
        ("1", "0.2"): TrialState.COMPLETE,
        ("C", "0.2"): TrialState.COMPLETE,
        ("1", "1000.0"): TrialState.FAIL,
        ("C", "1000.0"): TrialState.FAIL,
    }
    assert len(trials) == 4
