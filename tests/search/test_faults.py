"""Faults of the machine: a full disk, no memory, an unavailable database, damaged files."""

import io
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from spectrum import SearchConfig, run_search
from spectrum.study.command import read_toml
from tests.search.postgres import PostgresServer
from tests.search.processes import (
    Hold,
    Watch,
    check_nothing_is_lost,
    is_over,
    read_trials,
    sqlite,
    start_driver,
    wait_for,
    weights,
    workers_of,
    write_toml,
)


def limit_worker(limit: int, size: int) -> None:
    """Limits a resource of this process's worker, as soon as there is one."""
    wait_for(lambda: workers_of(os.getpid()))
    for worker in workers_of(os.getpid()):
        _, hard = resource.prlimit(worker, limit)
        resource.prlimit(worker, limit, (size, hard))


@contextmanager
def no_room(runs: Path) -> Iterator[Callable[[], None]]:
    """A store on a disk too small for a checkpoint. Yields a function that makes room.

    Where no disk may be mounted, the files of this process's worker can't grow instead.
    """
    runs.mkdir()
    mount = ["mount", "-t", "tmpfs", "none", runs, "-o"]
    if subprocess.run([*mount, "size=40k"], capture_output=True).returncode == 0:
        try:
            yield lambda: subprocess.run([*mount, "remount,size=40m"], check=True)
        finally:
            subprocess.run(["umount", runs], check=True)
        return
    with ThreadPoolExecutor(1) as pool:
        limited = pool.submit(limit_worker, resource.RLIMIT_FSIZE, 8_000)
        yield lambda: limit_worker(resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)
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
    tmp_path: Path, undisturbed: Path, postgres_server: PostgresServer
) -> None:
    shared = (write_toml(tmp_path), "--storage", postgres_server.url)
    runs, folders = tmp_path / "runs", (tmp_path / "first", tmp_path / "second")
    hold = Hold(tmp_path / "hold", 6)  # in the second epoch
    with (
        Watch(runs),
        start_driver(tmp_path / "a", *shared, "--out", folders[0], hold=hold) as first,
        start_driver(tmp_path / "b", *shared, "--out", folders[1], hold=hold) as second,
    ):
        hold.wait(2)
        postgres_server.stop()
        try:
            for driver in (first, second):
                wait_for(lambda driver=driver: "the storage can't be reached (" in driver.said)
            time.sleep(3 + 1)  # longer than a trial may be silent
        finally:
            postgres_server.start()
        hold.release()
        assert first.end() == 0, first.said
        assert second.end() == 0, second.said
    for driver in (first, second):
        assert driver.said.count("the storage can't be reached (") == 1
        assert driver.said.count("the storage is back") == 1
        assert "Traceback" not in driver.said
        assert "queued again" not in driver.said  # waiting processes aren't lost
    check_nothing_is_lost(read_trials(postgres_server.url), runs, undisturbed)
    winners = [folder / "tested" / "winner" / "config.json" for folder in folders]
    assert winners[0].read_text() == winners[1].read_text()
