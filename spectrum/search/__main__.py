"""The command ``python -m spectrum.search``."""

from __future__ import annotations

import shlex
import sys

import typer

from spectrum.errors import counted
from spectrum.search.config import SearchConfig
from spectrum.study.command import make_grid_app, run_grid_app
from spectrum.terminal import make_console, print_error, show_status

_SUMMARY = """Search where on the dial each part of a network is best, and check the winner.

The search starts from the uniform points, which have one setting everywhere, so its winner is
compared with the best of them. Run the same command again to continue a search that was stopped, or
several times at once to share the work.
"""


def _run(config: SearchConfig, arguments: list[str]) -> int:
    from spectrum.analysis.measure import infer_measure
    from spectrum.report.tables import render_trials
    from spectrum.search.optimize import SearchFailed
    from spectrum.search.outputs import FRONT, PAGE, WINNER_FOLDER
    from spectrum.search.search import run_search
    from spectrum.search.storage import StorageLost
    from spectrum.search.table import TRIALS
    from spectrum.study.study import Interrupted

    command = shlex.join(["python", "-m", "spectrum.search", *arguments])
    try:
        result = run_search(config, command=command)
    except Interrupted as interrupted:
        return print_error(f"{interrupted}; run the same command to continue", 130)
    except KeyboardInterrupt:
        return print_error(
            "interrupted, running trials are queued again; run the same command to continue", 130
        )
    except (SearchFailed, StorageLost) as error:
        return print_error(
            f"error: {error}; what is done is kept, run the same command to continue", 1
        )
    console, folder = make_console(), config.out / config.name
    fields = [*config.shown_fields, *(name for name in ("seeds",) if name in result.trials)]
    goals = config.goals(infer_measure(result.trials))
    console.print(render_trials(result.trials, goals, fields))
    console.print()
    for sentence in result.sentences:
        console.print(sentence, markup=False)
    console.print(
        f"\ntrials: {folder / TRIALS}\nfront:  {folder / FRONT}\n"
        f"winner: {folder / WINNER_FOLDER}\npage:   {folder / PAGE}",
        soft_wrap=True,
    )
    failed = [*result.trials.loc[result.trials["state"] == "failed", "error"]]
    failed += [*result.results.loc[result.results["status"] != "done", "error"]]
    if not failed:
        return 0
    return print_error(f"{counted(len(failed), 'run')} failed, the first: {failed[0]}", 1)


def _print_plan(config: SearchConfig) -> int:
    with show_status(make_console(stderr=True), "loading torch"):
        from spectrum.search.search import dry_run

    console = make_console()
    table, notes = dry_run(config)
    console.print(table)
    for note in notes:
        console.print(note, markup=False)
    return 0


def make() -> typer.Typer:
    """The application, which has the one command."""
    return make_grid_app(SearchConfig, _SUMMARY, "SEARCH.toml", _run, _print_plan)


def main() -> int:
    """Run the command and return the exit status: 0 done, 1 some runs failed, 2 bad usage."""
    return run_grid_app(make())


if __name__ == "__main__":
    sys.exit(main())
