"""The command ``python -m spectrum.report``, which counts what networks cost along the dial."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import BeforeValidator, Field, ValidationInfo

from spectrum.cli import make_app, make_command, name_flag, run_app
from spectrum.costs.choices import ImageShape, parse_shape
from spectrum.errors import FieldError, errors_about
from spectrum.fields import Config, Facts, UserPath
from spectrum.segments import parse_points
from spectrum.terminal import make_console, print_error, print_text

if TYPE_CHECKING:
    import pandas as pd

    from spectrum.costs import CostGrid
    from spectrum.networks import NetworkConfig

PLOTS = (".pdf", ".png", ".svg")
# The flag of each field of a network.
_FLAGS = {
    "name": "network",
    "network": "network",
    "segments": "segments",
    "order": "order",
    "pointwise_segments": "pointwise-segments",
    "shuffle": "shuffle",
    "num_classes": "classes",
    "in_channels": "input",
    "input_shape": "input",
}


def _split(text: Any) -> list[str]:
    if not isinstance(text, str):
        raise ValueError("must be text, with commas between its values")
    return [part.strip() for part in text.split(",")]


def _points(text: Any, info: ValidationInfo) -> list[str]:
    if not isinstance(text, str):
        raise ValueError("must be text, such as 1,4,C")
    with errors_about(str(info.field_name)):
        return parse_points(text)


class CostReportConfig(Config):
    """The networks whose costs are counted, and how they are printed."""

    segments: Annotated[tuple[str, ...], BeforeValidator(_points), Facts(metavar="POINTS")] = (
        "1",
        "2",
        "3",
        "4",
        "8",
        "16",
        "32",
        "C/8",
        "C/2",
        "C",
    )
    """Points of the dial, as in 1,C/8,entry=C+middle=4+exit=C."""
    network: Annotated[tuple[str, ...], BeforeValidator(_split), Facts(metavar="NAMES")] = (
        "paper",
    )
    """paper, small, tiny, vgg16, resnet50, inception_v3 and others, or your own model as
    package.module:callable."""
    order: Annotated[
        tuple[str, ...] | None,
        BeforeValidator(_split),
        Facts(metavar="NAMES", unset="the network's own"),
    ] = None
    """spatial_first, pointwise_first or spatial_only."""
    pointwise_segments: Annotated[
        tuple[str, ...] | None,
        BeforeValidator(_points),
        Facts(metavar="POINTS", unset="the network's own"),
    ] = None
    """Segments of the 1x1 beside each spatial convolution, such as 1,2,4, given like the points of
    the dial."""
    shuffle: Annotated[bool, Facts(is_switch=True)] = False
    """Move channels between the two convolutions, so that the segments of the 1x1 see each
    other."""
    match: Annotated[Literal["params", "macs", "none"], Facts(metavar="COST")] = "none"
    """The cost that widths make equal at all points: params, macs or none. Latency, which is
    measured, is matched by spectrum.study and spectrum.search."""
    input: ImageShape = "3x299x299"
    """Channels, height and width."""
    classes: Annotated[int, Field(gt=0, le=10_000_000), Facts(metavar="N")] = 1000
    """Number of classes."""
    by: Annotated[Literal["network", "flow", "layer"], Facts(metavar="WHAT")] = "network"
    """One line per network, flow or layer."""
    format: Annotated[Literal["table", "csv", "markdown", "html"], Facts(metavar="NAME")] = "table"
    """table, csv, markdown or html."""
    plot: Annotated[UserPath | None, Facts(metavar="FILE")] = None
    """Figure of the costs: .png, .pdf or .svg."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """The channels, height and width."""
        return parse_shape(self.input)


def report(flags: dict[str, Any]) -> int:
    """Count what networks cost along the dial: parameters, MACs and activations.

    Names separated by commas make a grid. Your own model is counted as it is first, then converted
    to each point of the dial.
    """
    try:
        config = CostReportConfig.checked(flags)
    except FieldError as error:
        raise name_flag(error, {flag: flag for flag in flags}) from None
    if config.plot is not None:
        _check_plot_path(config.plot)
    try:
        with redirect_stdout(sys.stderr):  # a user's model may print
            grid = _count_costs(config)
    except FieldError as error:
        raise name_flag(error, _FLAGS) from None
    if config.plot is not None:
        _write_plot(grid.rows, config.plot)
    for note in grid.notes:
        print_error(f"note: {note}", 0)
    return _print_costs(grid.rows, config)


def _check_plot_path(plot: Path) -> None:
    """Raises a FieldError if the plot can't be written, before anything is counted."""
    if plot.suffix not in PLOTS:
        raise FieldError("--plot", plot, f"must end in {', '.join(PLOTS)}")
    try:
        is_new = not plot.exists()
        plot.open("ab").close()
        if is_new:
            plot.unlink()
    except OSError as error:
        raise FieldError("--plot", plot, f"can't be written: {error.strerror}") from None


def _count_costs(config: CostReportConfig) -> CostGrid:
    """Counts the costs of every point, and shows the progress on a terminal."""
    with make_console(stderr=True).status("counting") as status:
        from spectrum.costs import cost_grid

        # dict.fromkeys drops points that are given twice.
        configs = list(
            dict.fromkeys(
                _make_config(config, name, order, pointwise, point)
                for name in config.network
                for order in config.order or [None]
                for pointwise in config.pointwise_segments or [None]
                for point in config.segments
            )
        )

        def show_progress(done: int) -> None:
            status.update(f"counted {done} of {len(configs)} points")

        return cost_grid(configs, config.shape, match=config.match, on_point=show_progress)


def _make_config(
    config: CostReportConfig, name: str, order: str | None, pointwise: str | None, segments: str
) -> NetworkConfig:
    from spectrum.networks import NetworkConfig

    fields = {
        "name": name,
        "order": order,
        "segments": segments,
        "num_classes": config.classes,
        "in_channels": config.shape[0],
    }
    if pointwise is not None:
        fields["pointwise_segments"] = pointwise
    if config.shuffle:
        fields["shuffle"] = True
    return NetworkConfig.checked(fields)


def _write_plot(rows: pd.DataFrame, plot: Path) -> None:
    from spectrum.report.cost_figure import cost_figure

    cost_figure(rows).savefig(plot)
    print_error(f"figure: {plot}", 0)


def _print_costs(rows: pd.DataFrame, config: CostReportConfig) -> int:
    from spectrum.report.cost_table import make_cost_table, print_cost_table
    from spectrum.report.costs import group_costs
    from spectrum.report.page import render_page
    from spectrum.report.tables import as_markdown

    costs = group_costs(rows, config.by)
    if config.format == "csv":
        print_text(costs.to_csv(index=False))
    elif config.format == "markdown":
        print_text(as_markdown(make_cost_table(costs, config.by)))
    elif config.format == "html":
        table = make_cost_table(costs, config.by)
        print_text(render_page("Costs along the dial", tables={"Costs": table}))
    else:
        print_cost_table(costs, config.by, make_console())
    return 0


def make() -> typer.Typer:
    """The application, which has the one command."""
    app = make_app()
    app.command()(make_command(CostReportConfig, report))
    return app


def main() -> int:
    """Runs the command and returns its exit status: 0 done, 1 output not written, 2 bad usage."""
    return run_app(make(), "interrupted")


if __name__ == "__main__":
    sys.exit(main())
