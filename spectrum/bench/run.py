"""What the commands do: measure, write the rows and the figure, print the table."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from rich.measure import Measurement
from rich.status import Status
from rich.table import Table

from spectrum.bench.cases import add_points
from spectrum.bench.config import (
    LayerBenchConfig,
    NetworkBenchConfig,
    NetworkCase,
    StudyBenchConfig,
    SupernetBenchConfig,
)
from spectrum.bench.figures import (
    figure_of_layer,
    figure_of_networks,
    figure_of_shapes,
    figure_of_study,
)
from spectrum.bench.layer import bench_layer
from spectrum.bench.machine import benchmark_settings, describe_machine
from spectrum.bench.network import bench_networks
from spectrum.bench.overhead import measure_overhead
from spectrum.bench.shapes import bench_shapes, compare_best, read_shapes
from spectrum.bench.study import bench_study, compare_accuracy, speedup
from spectrum.bench.summary import (
    SETTINGS,
    geometric_means,
    means_over_shapes,
    slowest_uneven_point,
    time_increases,
    varied_settings,
)
from spectrum.bench.supernet import bench_supernets
from spectrum.bench.tables import (
    format_number,
    layer_table,
    network_table,
    shape_table,
    study_table,
    supernet_table,
)
from spectrum.costs.timing import checked_device
from spectrum.errors import counted
from spectrum.files import write_atomic
from spectrum.study.outputs import write_rows
from spectrum.study.study import prepare_folder
from spectrum.terminal import make_console


def run_layer(bench: LayerBenchConfig) -> None:
    """Time a layer along the dial, and write ``layer.csv`` and ``layer.png``.

    Raises:
        FieldError: ``bench_layer`` raises one, this machine doesn't have the device, or the folder
            can't be written.
    """
    checked_device(bench.device)
    prepare_folder("out", bench.folder)
    with (
        benchmark_settings(bench.threads),
        _show_status(f"timing {counted(len(bench.points), 'point')}", bench.seconds),
    ):
        machine = describe_machine(bench.device)
        overhead = measure_overhead()
        times = bench_layer(bench)
    rows, (flops, bandwidth) = times
    side = f"{bench.size}x{bench.size}"
    passes = "forward" if bench.forward_only else "forward and backward"
    title = (
        f"{bench.kernel}x{bench.kernel} convolution, {counted(bench.channels, 'channel')}, {side}, "
        f"batch {bench.batch}, {bench.precision}, {passes}"
        f"{'' if bench.plan == 'auto' else f', plan {bench.plan}'}"
    )
    common = {
        "machine": machine,
        "device": bench.device,
        "precision": bench.precision,
        "channels": bench.channels,
        "size": bench.size,
        "batch": bench.batch,
        "kernel": bench.kernel,
        "passes": passes,
        "peak_gflops": flops / 1e9,
        "bandwidth_gb": bandwidth / 1e9,
    }
    _write(bench.folder / "layer", rows, common, figure_of_layer(rows, f"{title}; {machine}"))
    means = geometric_means(rows)
    remarks = [
        "geometric means of the library's time over ours: "
        f"{means['default']:.2f}x its default layout, {means['best']:.2f}x its best"
        + (
            ""
            if math.isnan(means["narrow"])
            else f", {means['narrow']:.2f}x its best at 2 to 7 channels per segment"
        ),
        *(
            f"time rises as MACs fall: {after} segments take {longer:.2f} times as long as {before}"
            for before, after, longer in time_increases(rows)
        ),
    ]
    remarks.append(f"on the CPU our layer adds {overhead:.1f} microseconds to torch's own calls")
    if len(rows) > 1 and not time_increases(rows):
        remarks.append("time rises nowhere by more than 10% as MACs fall")
    if (rows["roofline"] > 1).any():
        remarks.append(
            "layers were faster than the ceilings: something disturbed the run, do it again"
        )
    slowest = slowest_uneven_point(rows)
    if slowest is not None:
        uneven, even, longer = slowest
        remarks.append(
            f"uneven segments take at most {longer:.2f} times as long as the nearest even ones "
            f"({uneven} beside {even})"
        )
    if (rows["native"] != "nn.Conv2d").any():
        remarks.append(
            "* nn.Conv2d has no uneven groups; a grouped convolution for each run of equal "
            "segments takes its place"
        )
    limits = (
        f"ceilings in this run: {format_number(flops / 1e9)} GFLOP/s, "
        f"{format_number(bandwidth / 1e9)} GB/s"
    )
    _print([title, machine, limits], layer_table(rows), remarks, bench.folder / "layer")


def run_shapes(bench: LayerBenchConfig) -> None:
    """Time the layers of a file along the dial, and write ``shapes.csv`` and ``shapes.png``.

    Raises:
        FieldError: the file holds no shapes, this machine doesn't have the device, or the folder
            can't be written.
    """
    checked_device(bench.device)
    shapes = read_shapes(bench)
    prepare_folder("out", bench.folder)
    with (
        benchmark_settings(bench.threads),
        _show_status(f"timing {counted(len(shapes), 'shape')}", bench.seconds),
    ):
        machine = describe_machine(bench.device)
        rows = bench_shapes(shapes)
    best = compare_best(rows)
    means = means_over_shapes(best)
    narrow = (
        ""
        if math.isnan(means["narrow"])
        else f", {means['narrow']:.2f}x at 2 to 7 channels per segment and stride 1"
    )
    remarks = [
        "geometric means of the library's time over ours, each in its better layout: "
        f"{means['training']:.2f}x in training, {means['inference']:.2f}x in inference{narrow}",
        f"* slower than the library in the same layout: {rows['slower'].sum()} of {len(rows)}",
        *(
            f"  {row.channels} channels, {row.size}x{row.size}, batch {row.batch}, {row.kernel}x"
            f"{row.kernel}, stride {row.stride}, {row.mode}, {row.layout}, {row.segments} "
            f"({row.plan}): {row.ratio:.2f}x"
            for row in rows[rows["slower"]].itertuples()
        ),
    ]
    title = f"{counted(len(shapes), 'convolution')} along the dial, {bench.precision}"
    common = {"machine": machine, "device": bench.device, "precision": bench.precision}
    figure = figure_of_shapes(best, f"{title}; {machine}")
    _write(bench.folder / "shapes", rows, common, figure)
    _print([title, machine], shape_table(rows, best), remarks, bench.folder / "shapes")


def run_network(bench: NetworkBenchConfig, typed: Sequence[NetworkCase]) -> None:
    """Time networks in turns, and write ``network.csv`` and ``network.png``.

    Args:
        bench: how the networks are timed.
        typed: the networks, as they were typed.

    Raises:
        FieldError: ``bench_networks`` raises one, this machine doesn't have the
            device, or the folder can't be written.
    """
    checked_device(bench.device)
    cases = add_points(typed, bench)
    prepare_folder("out", bench.folder)
    with (
        benchmark_settings(bench.threads),
        _show_status(f"timing {counted(len(cases), 'network')}", bench.seconds),
        redirect_stdout(sys.stderr),  # a user's model may print something
    ):
        machine = describe_machine(bench.device)
        rows, notes = bench_networks(cases, bench)
    constant = [name for name in SETTINGS if name not in varied_settings(rows)]
    matched = {"params": "equal parameters", "macs": "equal MACs", "none": "costs not matched"}
    title = ", ".join(
        [
            f"input {bench.input}",
            matched[bench.match],
            *(f"{name} {rows[name].iloc[0]}" for name in constant),
        ]
    )
    common = {
        "machine": machine,
        "device": bench.device,
        "input": bench.input,
        "match": bench.match,
    }
    _write(bench.folder / "network", rows, common, figure_of_networks(rows, f"{title}; {machine}"))
    remarks = [f"note: {note}" for note in notes]
    _print([title, machine], network_table(rows), remarks, bench.folder / "network")


def run_supernet(bench: SupernetBenchConfig, networks: Sequence[str]) -> None:
    """Time supernets beside their networks, and write ``supernet.csv``.

    Raises:
        FieldError: ``bench_supernet`` raises one, this machine doesn't have the device, or the
            folder can't be written.
    """
    checked_device(bench.device)
    prepare_folder("out", bench.folder)
    with (
        benchmark_settings(bench.threads),
        _show_status(f"timing {counted(len(networks), 'supernet')}", bench.seconds),
    ):
        machine = describe_machine(bench.device)
        rows = bench_supernets(networks, bench)
    title = (
        f"segments {', '.join(bench.segments)}, widths {', '.join(map(str, bench.widths))}, input "
        f"{bench.input}, batch {bench.batch}, {counted(bench.members, 'random network')} in a step"
    )
    common = {"machine": machine, "device": bench.device, "input": bench.input}
    _write(bench.folder / "supernet", rows, common)
    _print([title, machine], supernet_table(rows), [], bench.folder / "supernet", has_figure=False)


def run_study(bench: StudyBenchConfig) -> None:
    """Time the default study and a script; write ``study.csv``, ``study_runs.csv``, ``study.png``.

    Raises:
        FieldError: the folder can't be written.
        CommandFailed: a program fails, or trains networks of other sizes.
    """
    prepare_folder("out", bench.folder)
    machine = describe_machine("cpu")
    with make_console(stderr=True).status("planning") as status:

        def show(program: str, repeat: int) -> None:
            status.update(f"{program}, repeat {repeat} of {bench.repeats}")

        times, runs = bench_study(bench, show)
    title = f"the default study, {counted(bench.seeds, 'seed')}, {counted(bench.epochs, 'epoch')}"
    common = {"machine": machine, "seeds": bench.seeds, "epochs": bench.epochs}
    write_rows(bench.folder / "study_runs.csv", runs)
    _write(
        bench.folder / "study", times, common, figure_of_study(times, runs, f"{title}; {machine}")
    )
    difference = compare_accuracy(runs)
    interval = (
        ""
        if math.isnan(difference.low)
        else f" (95% interval {difference.low:+.4f} to {difference.high:+.4f})"
    )
    remarks = [
        f"{speedup(times):.2f} times as many runs per minute as the plain script",
        f"test top-1 less the script's: {difference.mean:+.4f}{interval}",
    ]
    _print([title, machine], study_table(times), remarks, bench.folder / "study")


def _show_status(text: str, seconds: float) -> Status:
    """Shows on a terminal, for a ``with`` block, what is running and for how long."""
    return make_console(stderr=True).status(f"{text}, for {seconds:g} s or longer")


def _write(
    stem: Path, rows: pd.DataFrame, common: Mapping[str, object], figure: Figure | None = None
) -> None:
    """Write the rows, with the columns that all of them share, and the figure if there is one."""
    shared = pd.DataFrame([common] * len(rows), index=rows.index)
    write_rows(stem.with_suffix(".csv"), pd.concat([shared, rows], axis=1), "%.6g")
    if figure is not None:
        write_atomic(stem.with_suffix(".png"), partial(figure.savefig, format="png"))


def _print(
    header: Sequence[str],
    table: Table,
    remarks: Sequence[str],
    stem: Path,
    *,
    has_figure: bool = True,
) -> None:
    console = make_console()
    for line in header:
        console.print(line, markup=False, soft_wrap=True)
    console.print()
    # The table has its full width, even on a narrower terminal.
    table.width = Measurement.get(console, console.options.update(max_width=1000), table).maximum
    console.print(table, crop=False)
    console.print()
    for line in remarks:
        console.print(line, markup=False, soft_wrap=True)
    files = f"rows:    {stem.with_suffix('.csv')}"
    if has_figure:
        files += f"\nfigure:  {stem.with_suffix('.png')}"
    console.print(files, markup=False, soft_wrap=True)
