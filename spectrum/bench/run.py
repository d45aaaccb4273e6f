"""The commands' work: measure, write the rows and the figure, print the table."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from spectrum.bench.arguments import Layout, Precision
from spectrum.bench.figures import figure_of_layer, figure_of_networks, figure_of_study
from spectrum.bench.layer import LayerBench, bench_layer
from spectrum.bench.machine import describe_machine, on_machine
from spectrum.bench.names import Entry
from spectrum.bench.network import bench_networks
from spectrum.bench.study import bench_study, compare_accuracy, speedup
from spectrum.bench.subjects import NetworkBench, make_subjects
from spectrum.bench.summary import geometric_means, rises, slowest_uneven
from spectrum.bench.tables import layer_table, network_table, number, study_table
from spectrum.command import make_console
from spectrum.costs.timing import checked_device
from spectrum.study.outputs import write_rows
from spectrum.study.study import make_writable
from spectrum.training.checkpoint import write_whole

__all__ = ["run_layer", "run_network", "run_study"]


def run_layer(bench: LayerBench, threads: int | None, folder: Path) -> None:
    """Time a layer along the dial; ``layer.csv`` and ``layer.png`` go to the folder.

    Raises:
        ValueError: as ``bench_layer``; or the device isn't there, or the folder can't be written.
    """
    checked_device(bench.device)
    make_writable("out", folder)
    with on_machine(threads), _telling(f"timing {len(bench.segments)} points", bench.seconds):
        machine = describe_machine(bench.device)
        times = bench_layer(bench)
    rows, (flops, bandwidth) = times
    side = f"{bench.size}x{bench.size}"
    passes = "forward and backward" if bench.training else "forward"
    what = (
        f"{bench.kernel}x{bench.kernel} convolution, {bench.channels} channels, {side}, "
        f"batch {bench.batch}, {bench.precision}, {passes}"
        f"{'' if bench.plan == 'auto' else f', plan {bench.plan}'}"
    )
    case = {
        **{"machine": machine, "device": bench.device, "precision": bench.precision},
        **{"channels": bench.channels, "size": bench.size, "batch": bench.batch},
        **{"kernel": bench.kernel, "passes": passes},
        **{"peak_gflops": flops / 1e9, "bandwidth_gb": bandwidth / 1e9},
    }
    _write(folder / "layer", rows, case, figure_of_layer(rows, f"{what}; {machine}"))
    means = geometric_means(rows)
    said = [
        "geometric means of the library's time over ours: "
        f"{means['default']:.2f}x its default layout, {means['best']:.2f}x its best"
        + (
            ""
            if math.isnan(means["narrow"])
            else f", {means['narrow']:.2f}x its best at 2 to 7 channels a segment"
        ),
        *(
            f"time rises as MACs fall: {after} segments take {longer:.2f} times as long as {before}"
            for before, after, longer in rises(rows)
        ),
    ]
    if len(rows) > 1 and not rises(rows):
        said.append("time rises nowhere by more than 10% as MACs fall")
    if (rows["roofline"] > 1).any():
        said.append(
            "layers were faster than the ceilings: something disturbed the run, do it again"
        )
    slowest = slowest_uneven(rows)
    if slowest is not None:
        point, beside, longer = slowest
        said.append(
            f"uneven segments take at most {longer:.2f} times as long as the nearest even ones "
            f"({point} beside {beside})"
        )
    if (rows["native"] != "nn.Conv2d").any():
        said.append(
            "* nn.Conv2d has no uneven groups; a grouped convolution for each run of equal "
            "segments takes its place"
        )
    limits = f"ceilings in this run: {number(flops / 1e9)} GFLOP/s, {number(bandwidth / 1e9)} GB/s"
    _print([what, machine, limits], layer_table(rows), said, folder / "layer")


def run_network(
    bench: NetworkBench,
    entries: Sequence[Entry],
    points: Sequence[str] | None,
    precision: Precision,
    layout: Layout,
    threads: int | None,
    folder: Path,
) -> None:
    """Time networks side by side; ``network.csv`` and ``network.png`` go to the folder.

    The arguments are those of ``make_subjects`` and ``bench_networks``.

    Raises:
        ValueError: as these two; or the device isn't there, or the folder can't be written.
    """
    checked_device(bench.device)
    subjects = make_subjects(entries, points, precision, layout, bench)
    make_writable("out", folder)
    with (
        on_machine(threads),
        _telling(f"timing {len(subjects)} networks", bench.seconds),
        redirect_stdout(sys.stderr),  # for what a user's model prints
    ):
        machine = describe_machine(bench.device)
        rows, notes = bench_networks(subjects, bench)
    told = ("precision", "layout", "plan", "batch", "mode")
    alike = [name for name in told if rows[name].nunique() == 1]
    shape = "x".join(map(str, bench.input_shape))
    matched = {"params": "equal parameters", "macs": "equal MACs", "none": "costs not matched"}
    what = ", ".join(
        [
            f"input {shape}",
            matched[bench.match],
            *(f"{name} {rows[name].iloc[0]}" for name in alike),
        ]
    )
    case = {"machine": machine, "device": bench.device, "input": shape, "match": bench.match}
    _write(folder / "network", rows, case, figure_of_networks(rows, f"{what}; {machine}"))
    said = [f"note: {note}" for note in notes]
    _print([what, machine], network_table(rows), said, folder / "network")


def run_study(script: Path, *, seeds: int, epochs: int, repeats: int, folder: Path) -> None:
    """Time the default study beside the script.

    ``study.csv``, ``study_runs.csv`` and ``study.png`` go to the folder. The other arguments are
    those of ``bench_study``.

    Raises:
        ValueError: the folder can't be written.
        Failed: as ``bench_study``.
    """
    make_writable("out", folder)
    machine = describe_machine("cpu")
    with Console(stderr=True).status("planning") as status:

        def tell(program: str, repeat: int) -> None:
            status.update(f"{program}, repeat {repeat} of {repeats}")

        times, runs = bench_study(
            script, seeds=seeds, epochs=epochs, repeats=repeats, on_program=tell
        )
    what = f"the default study, {seeds} seeds, {epochs} epochs"
    case = {"machine": machine, "seeds": seeds, "epochs": epochs}
    write_rows(folder / "study_runs.csv", runs)
    _write(folder / "study", times, case, figure_of_study(times, runs, f"{what}; {machine}"))
    more = compare_accuracy(runs)
    span = "" if math.isnan(more.low) else f" (95% interval {more.low:+.4f} to {more.high:+.4f})"
    said = [
        f"{speedup(times):.2f} times as many runs a minute as the plain script",
        f"test top-1 less the script's: {more.mean:+.4f}{span}",
    ]
    _print([what, machine], study_table(times), said, folder / "study")


@contextmanager
def _telling(text: str, seconds: float) -> Iterator[None]:
    """Say on a terminal what takes its time."""
    with Console(stderr=True).status(f"{text}, for {seconds:g} seconds or longer"):
        yield


def _write(stem: Path, rows: pd.DataFrame, case: Mapping[str, object], figure: Figure) -> None:
    """The rows with what they have in common, and their figure."""
    common = pd.DataFrame([case] * len(rows), index=rows.index)
    write_rows(stem.with_suffix(".csv"), pd.concat([common, rows], axis=1), "%.6g")
    write_whole(stem.with_suffix(".png"), partial(figure.savefig, format="png"))


def _print(heads: Sequence[str], table: Table, said: Sequence[str], stem: Path) -> None:
    console = make_console()
    for line in heads:
        console.print(line, markup=False, soft_wrap=True)
    console.print()
    # As wide as its numbers need, on a terminal that is narrower too.
    table.width = Measurement.get(console, console.options.update(max_width=1000), table).maximum
    console.print(table, crop=False)
    console.print()
    for line in said:
        console.print(line, markup=False, soft_wrap=True)
    files = f"rows:    {stem.with_suffix('.csv')}\nfigure:  {stem.with_suffix('.png')}"
    console.print(files, markup=False, soft_wrap=True)
