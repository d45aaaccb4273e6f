"""The page of made-up rows: its order, its escaping, and that it is self-contained."""

from __future__ import annotations

import base64
import html.parser
import itertools
import re
from typing import Any
from xml.etree import ElementTree

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from spectrum.analysis.statistics import summarize
from spectrum.report.page import render_page
from spectrum.report.ranking import result_tables

HOSTILE = "<script>alert(1)</script> \"&' <b>"
VOID = {"meta", "img", "wbr"}


def results(**changes: Any) -> pd.DataFrame:
    """Two seeds at each of two points."""
    rows = [
        {
            "run_id": f"{segments}{seed}{changes}",
            "network": "tiny",
            "segments": segments,
            "match": "params",
            "width": width,
            "seed": seed,
            "params": 79_801,
            "macs": 1_369_384,
            "val_top1": 0.75,
            "test_top1": accuracy,
            "train_seconds": 1234.0 + seed,
            "status": "done",
            "error": "",
            **changes,
        }
        for segments, width, middle in (("4", 0.62751, 0.9), ("C", 1.0, 0.8))
        for seed, accuracy in enumerate((middle - 0.001, middle + 0.001))
    ]
    return pd.DataFrame(rows)


def drawing() -> Figure:
    figure = Figure(layout="constrained")
    ax = figure.subplots()
    ax.plot([1, 2], [3, 4], label="a curve", marker="o")
    ax.imshow([[0.0, 1.0], [1.0, 0.0]])  # an image inside the figure
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def page(**changes: Any) -> str:
    rows = results()
    given: dict[str, Any] = {
        "title": "Which point is best?",
        "sentences": ["4 is better than C."],
        "figures": {"Along the dial": (drawing(), "Means and intervals.")},
        "summary": summarize(rows),
        "failures": rows.iloc[:0],
        "notes": ["4 saturates."],
        "configuration": {"seeds": 2},
        "versions": {"torch": "2.13.0+cpu"},
        "command": "python -m spectrum.study",
        **changes,
    }
    tables = result_tables(given.pop("summary"), given.pop("failures"))
    return render_page(given.pop("title"), tables=tables, **given)


class Reader(html.parser.HTMLParser):
    """The texts of every element by tag and class, the cells by table, and every attribute."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, str]] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[tuple[str, str], list[str]] = {}
        self.tables: list[list[list[tuple[str, str]]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in VOID:
            return
        key = (tag, dict(attrs).get("class", ""))
        self.open.append(key)
        self.texts.setdefault(key, []).append("")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append((key[1], ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for key in self.open:
            self.texts[key][-1] += data
        if any(tag in ("td", "th") for tag, _ in self.open):
            name, text = self.tables[-1][-1][-1]
            self.tables[-1][-1][-1] = (name, text + data)

    def cells(self, table: int) -> list[list[str]]:
        return [[text for _, text in row] for row in self.tables[table]]


def test_what_the_evidence_supports_comes_first() -> None:
    failures = results(status="diverged", error="loss is nan").iloc[:1]
    text = page(failures=failures)
    in_order = (
        "<h1>Which point is best?",
        "4 is better than C.",
        "<h2>Points",
        "<h2>Figures",
        "Along the dial",
        "data:image/svg+xml",
        "Means and intervals.",
        "<h2>Failed runs",
        "loss is nan",
        "4 saturates.",
        "<h2>Configuration",
        "python -m spectrum.study",
        ">seeds<",
        "<h2>Versions",
        ">torch<",
    )
    body = text[text.index("<body>") :]
    places = [body.index(part) for part in in_order]
    assert places == sorted(places)
    assert "<title>Which point is best?</title>" in text


def test_a_mapping_of_the_configuration_is_a_group() -> None:
    configuration = {
        "segments": ("1", "entry=C+exit=4"),
        "network": {"name": ["tiny"], "hidden": [[64], [128, 64]], "stem": {"residual": False}},
        "start": None,
        "data": {},
        "seeds": 5,
    }
    reader = Reader(page(configuration=configuration))
    assert reader.cells(1) == [
        ["segments", "1, entry=C+exit=4"],
        ["start", "not set"],
        ["seeds", "5"],
        ["network"],
        ["name", "tiny"],
        ["hidden", "[64], [128, 64]"],
        ["stem.residual", "false"],
    ]
    assert reader.cells(2) == [["torch", "2.13.0+cpu"]]
    assert reader.texts["code", ""] == ["python -m spectrum.study"]


def test_an_empty_argument_has_no_section() -> None:
    empty = pd.DataFrame()
    text = page(
        **{"sentences": [], "figures": {}, "summary": empty, "failures": empty, "notes": []},
        **{"configuration": {}, "versions": {}, "command": ""},
    )
    body = Reader(text[text.index("<body>") : text.index("</html>")])
    assert {tag for tag, _ in body.tags} == {"body", "main", "h1"}
    assert "<h2>Configuration" in page(configuration={})  # there is still the command
    assert "<h2>Failed runs" not in page()


def test_every_text_is_escaped() -> None:
    rows = results(lr=HOSTILE, segments=f"C+{HOSTILE}", error=HOSTILE, status=HOSTILE)
    both = pd.concat([results(lr="0"), results(lr=HOSTILE), rows], ignore_index=True)
    text = page(
        **{"title": HOSTILE, "sentences": [HOSTILE], "notes": [HOSTILE], "command": HOSTILE},
        **{"figures": {HOSTILE: (drawing(), HOSTILE)}, "summary": summarize(both)},
        **{"configuration": {HOSTILE: HOSTILE, f"{HOSTILE}2": {HOSTILE: [HOSTILE]}}},
        **{"versions": {HOSTILE: HOSTILE}, "failures": rows.iloc[:1]},
    )
    reader = Reader(text)
    assert not {"script", "b"} & {tag for tag, _ in reader.tags}
    assert reader.texts["title", ""][:1] == reader.texts["h1", ""] == [HOSTILE]
    assert reader.texts["h3", ""] == reader.texts["figcaption", ""] == [HOSTILE]
    assert reader.texts["code", ""] == reader.texts["li", ""][-1:] == [HOSTILE]
    assert [a["alt"] for tag, a in reader.tags if tag == "img"] == [HOSTILE]
    cells = [cell for table in range(4) for row in reader.cells(table) for cell in row]
    assert cells.count(HOSTILE) == 4 + 3 + 4 + 2  # the field, the failure, configuration, versions
    drawn = [a["aria-label"] for tag, a in reader.tags if tag == "svg" and "aria-label" in a]
    assert drawn == [f"C+{HOSTILE}"] * (2 + 1)
    assert text.count("alert(1)") == text.count("&lt;script&gt;alert(1)&lt;/script&gt;")


def pictures(text: str) -> list[ElementTree.Element]:
    """The figures of a page, parsed."""
    prefix = "data:image/svg+xml;base64,"
    sources = [a["src"] for tag, a in Reader(text).tags if tag == "img"]
    assert all(source.startswith(prefix) for source in sources)
    return [ElementTree.fromstring(base64.b64decode(s.removeprefix(prefix))) for s in sources]


def test_the_page_is_self_contained() -> None:
    text = page()
    assert not re.search(r"https?:|url\(|@import|//\w", text.replace("data:image/svg+xml", ""))
    tags = {tag for tag, _ in Reader(text).tags}
    assert not {"script", "link", "iframe", "object", "base", "form", "a"} & tags
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert any(policy in a.get("content", "") for tag, a in Reader(text).tags if tag == "meta")
    (svg,) = pictures(text)
    for element in svg.iter():
        for name, value in element.attrib.items():
            if name.endswith(("href", "src")):
                assert value.startswith(("#", "data:image/png;base64,"))
            assert re.findall(r"url\((?!#)", value) == []
    assert any(element.tag.endswith("}image") for element in svg.iter())


def test_figures_show_without_fonts() -> None:
    (svg,) = pictures(page())
    tags = {element.tag.rpartition("}")[2] for element in svg.iter()}
    assert "path" in tags
    assert "text" not in tags


def test_the_same_study_is_the_same_page_to_the_byte() -> None:
    first = page()
    with matplotlib.rc_context(
        {"svg.hashsalt": None, "svg.fonttype": "none", "svg.image_inline": False}
    ):
        assert page() == first
    (svg,) = pictures(first)
    assert not [element for element in svg.iter() if element.tag.endswith("}date")]


def test_a_screen_reader_can_read_the_page() -> None:
    failures = results(status="failed", error="no").iloc[:1]
    reader = Reader(page(failures=failures))
    tags = [tag for tag, _ in reader.tags]
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    attributes = dict(reader.tags)
    assert attributes["html"] == {"lang": "en"}
    assert tags.count("caption") == tags.count("table") == 4
    assert all("scope" in a for tag, a in reader.tags if tag == "th")
    ids = [a["id"] for _, a in reader.tags if "id" in a]
    labels = [a["aria-labelledby"] for _, a in reader.tags if "aria-labelledby" in a]
    assert sorted(labels) == sorted(set(ids)) == ["table-1", "table-2"]
    named = [a for tag, a in reader.tags if tag == "meta" and a.get("name") == "viewport"]
    assert named == [{"name": "viewport", "content": "width=device-width, initial-scale=1"}]


def test_no_character_of_a_name_breaks_the_page() -> None:
    foreign = "".join(map(chr, [*range(9), *range(14, 32), 127, 0x85, 0x202E, 0x2066, 0xDCFF]))
    foreign = f"<b>&\"'{{{{ 1 }}}}{foreign}"
    named = foreign.replace("\udcff", "")  # a DataFrame can't hold it
    rows = results(data=named, status="failed", error=named)
    page = render_page(
        foreign,
        sentences=[foreign],
        tables=result_tables(summarize(rows), rows),
        notes=[foreign],
        configuration={foreign: foreign, "group": {foreign: [foreign]}},
        command=foreign,
        versions={foreign: foreign},
    )
    assert page.encode().decode() == page
    assert not [char for char in page if not char.isprintable() and char != "\n"]
    assert "<b>" not in page
    assert "{{ 1 }}" in page
    assert r"\x00\x01" in page


def test_a_page_reloads_itself_only_if_it_is_to() -> None:
    refresh = ("meta", {"http-equiv": "refresh", "content": "30"})
    assert refresh in Reader(page(reload_after=30)).tags
    assert "refresh" not in page()
