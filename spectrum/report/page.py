"""One self-contained page of HTML: what was found first, then the evidence."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import matplotlib
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from spectrum.analysis.labels import schedule_parts
from spectrum.errors import printable
from spectrum.report.schedules import setting_colours
from spectrum.report.tables import Table

_STRIP, _CELL = 112, 18  # the largest widths of a strip and of its cells, in pixels
# The name of each group, empty for none, with the names and texts of its entries.
_Groups = list[tuple[str, list[tuple[str, str]]]]


def render_page(
    title: str,
    *,
    sentences: Sequence[str] = (),
    setup: str = "",
    figures: Mapping[str, tuple[Figure, str]] | None = None,
    tables: Mapping[str, Table] | None = None,
    notes: Sequence[str] = (),
    configuration: Mapping[str, object] | None = None,
    command: str = "",
    versions: Mapping[str, str] | None = None,
    reload_after: int | None = None,
) -> str:
    """Renders a page of HTML that loads nothing else and runs no script.

    The same arguments give the same text to the byte. Characters that control a terminal or reverse
    the order of the text are escaped, and so are those that UTF-8 can't hold. Empty arguments get
    no section. The figures are drawn here. A figure with constrained layout should not have been
    drawn before, because matplotlib moves its parts a little each time.

    Args:
        title: the title of the page.
        sentences: what the evidence supports, as ``state_evidence`` returns it. It comes first.
        setup: the data, the network and the runs, in a few words.
        figures: each figure and its caption, by the title of the figure, in reading order.
        tables: each table by its title. The first stands before the figures.
        notes: further notes for the reader, one or two sentences each.
        configuration: the fields of a study or search. A mapping among the values is a group.
        command: the command that runs it again.
        versions: the versions of the software that was used, by its name.
        reload_after: the seconds after which a browser loads the page again; None for never.

    Returns:
        The text of the page.
    """
    environment = Environment(
        loader=PackageLoader("spectrum", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    named = [
        cell
        for table in (tables or {}).values()
        for column in table.columns
        if column.names_row
        for cell in column.cells
    ]
    colours = setting_colours(named)
    environment.filters["strip"] = lambda segments: _strip(segments, colours)
    page = environment.get_template("page.html").render(
        title=title,
        sentences=sentences,
        setup=setup,
        colours=colours,
        figures=[(name, _data_uri(drawn), text) for name, (drawn, text) in (figures or {}).items()],
        tables=tables or {},
        notes=notes,
        configuration=_group_fields(configuration or {}),
        command=command,
        versions=_group_fields(versions or {}),
        reload_after=reload_after,
    )
    return "\n".join(map(printable, page.split("\n")))


def _strip(segments: str, colours: Mapping[str, str]) -> Markup:
    """A schedule as a strip with a cell for each flow or layer; empty for another setting."""
    parts = schedule_parts(segments)
    if not parts:
        return Markup("")
    cell = min(_STRIP / len(parts), _CELL)
    cells = Markup().join(
        Markup('<rect x="{}" width="{}" height="14" fill="{}"><title>{}: {}</title></rect>').format(
            f"{i * cell:.4g}", f"{cell:.4g}", colours[setting], name, setting
        )
        for i, (name, setting) in enumerate(parts)
    )
    drawing = '<svg class="strip" role="img" aria-label="{}" width="{:.4g}" height="14">{}</svg>'
    return Markup(drawing).format(segments, cell * len(parts), cells)


def _data_uri(figure: Figure) -> str:
    file = io.BytesIO()
    # Text as outlines needs no fonts to be shown. A fixed salt makes the ids reproducible.
    with matplotlib.rc_context(
        {"svg.fonttype": "path", "svg.hashsalt": "spectrum", "svg.image_inline": True}
    ):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _group_fields(fields: Mapping[str, object]) -> _Groups:
    """Groups fields: first those with a plain value, then one group per mapping."""
    plain = {name: value for name, value in fields.items() if not isinstance(value, Mapping)}
    groups = {name: value for name, value in fields.items() if isinstance(value, Mapping)}
    return [(name, _flatten(group)) for name, group in {"": plain, **groups}.items() if group]


def _flatten(fields: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """Names and texts of fields. Those of nested mappings get dotted names, as in TOML."""
    found = []
    for name, value in fields.items():
        if isinstance(value, Mapping):
            found += _flatten(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", _format_value(value)))
    return found


def _format_value(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        inner = (
            f"[{_format_value(v)}]" if isinstance(v, list | tuple) else _format_value(v)
            for v in value
        )
        return ", ".join(inner) or "none"
    return str(value)
