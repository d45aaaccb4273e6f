"""The page in Chromium: it fits a screen and a phone, is legible, and loads nothing.

Another page shows it in frames of both widths and in both colour schemes, which a frame takes from
its surroundings, and records what it measures there.
"""

from __future__ import annotations

import functools
import html
import json
import os
import re
import shutil
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from spectrum.analysis.statistics import summarize
from spectrum.report.figures import study_figures
from spectrum.report.page import render_page
from spectrum.report.ranking import result_tables
from tests.made_up_results import results_of

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium to look at the page with"
)

NAME = "<script>parent.executed = 1</script> \"&' <b>name</b>"
# What a browser would fetch and execute without the page's policy.
INTRUDERS = """\
<img src="/{name}.png"><link rel="stylesheet" href="/{name}.css"><script src="/{name}.js"></script>
<script>parent.executed = (parent.executed || "") + "{name}"</script>"""
FRAMES = {
    "screen": ("page.html", 1280, "light"),
    "phone": ("page.html", 390, "light"),
    "dark": ("page.html", 390, "dark"),
    "kept": ("kept.html", 390, "light"),
    "open": ("open.html", 390, "light"),
    "study on a screen": ("study.html", 1280, "light"),
    "study on a phone": ("study.html", 390, "light"),
}
FRAME = (
    '<iframe id="{}" src="/{}" style="width:{}px;height:500px;border:0;color-scheme:{}"></iframe>'
)
SURROUNDINGS = """\
<!DOCTYPE html><meta charset="utf-8"><link rel="icon" href="data:,">
%s<pre id="measured"></pre><script>
const channels = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
const luminance = (text) => channels(text).slice(0, 3)
  .map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
function contrast(window, element) {
  let behind = element;
  while (channels(window.getComputedStyle(behind).backgroundColor)[3] === 0)
    behind = behind.parentElement;
  const [a, b] = [window.getComputedStyle(element).color,
    window.getComputedStyle(behind).backgroundColor].map(luminance);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}
function smallestText(image) {  // in pixels: matplotlib scales outlines of 100 units to the size
  const svg = new DOMParser().parseFromString(atob(image.src.split(",")[1]), "image/svg+xml");
  const sizes = [...svg.querySelectorAll("[id^=text_] g[transform*=scale]")].map((glyphs) =>
    100 * Number(glyphs.getAttribute("transform").match(/scale\\(([\\d.]+)/)[1]));
  const style = image.ownerDocument.defaultView.getComputedStyle(image);
  const shown = image.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  return Math.min(...sizes) * shown / svg.documentElement.viewBox.baseVal.width;
}
function measure(frame) {
  const window = frame.contentWindow, page = frame.contentDocument;
  const texts = [...page.body.querySelectorAll("*")].filter((element) =>
    [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
  return {
    width: page.documentElement.clientWidth,
    scrollWidth: page.documentElement.scrollWidth,
    images: [...page.images].map((image) => [image.naturalWidth, image.width]),
    boxes: [...page.querySelectorAll(".scroll")].map((box) => [box.clientWidth, box.scrollWidth,
      box.querySelector("caption span").offsetWidth]),
    widest: Math.max(...[...page.querySelectorAll("td")].map((cell) => cell.offsetWidth)),
    page: window.getComputedStyle(page.body).backgroundColor,
    dark: window.matchMedia("(prefers-color-scheme: dark)").matches,
    contrasts: texts.map((element) => contrast(window, element)),
    card: page.images[0] && window.getComputedStyle(page.images[0]).backgroundColor,
    text: page.body.innerText,
    smallest: frame.id.startsWith("study") ? [...page.images].map(smallestText) : [],
    tops: [...page.images].map((image) => image.getBoundingClientRect().top),
    lefts: [...page.images].map((image) => image.getBoundingClientRect().left),
    rows: [...page.querySelectorAll("#table-1")].flatMap((caption) =>
      [...caption.closest("table").tBodies[0].rows].map((row) => ({
        mark: row.className,
        strips: row.querySelectorAll("svg rect").length,
        cells: [...row.cells].map((cell) => [cell.innerText, cell.getBoundingClientRect().right]),
      }))),
  };
}
onload = () => {
  const frames = Object.fromEntries([...document.querySelectorAll("iframe")]
    .map((frame) => [frame.id, measure(frame)]));
  measured.textContent = JSON.stringify({executed: window.executed ?? null, frames});
};
</script>"""


def made_up_page() -> str:
    """A page that is hard to fit: a wide figure, long settings, names and reasons, many columns."""
    rows = pd.DataFrame(
        [
            {
                "run_id": f"{segments}{lr}{seed}",
                "segments": segments,
                "match": "none",
                "order": NAME,
                "lr": lr,
                "width": 1.0,
                "seed": seed,
                "params": 79_801,
                "macs": 1_369_384,
                "val_top1": 0.75,
                "test_top1": 0.9 + seed / 100,
                "train_seconds": 1234.5,
                "status": "failed",
                "error": NAME + "x" * 200,
            }
            for segments in ("1", "entry=C+middle=C/8+exit=C", "+".join(["C/8"] * 34))
            for lr in (0.002, 0.004)
            for seed in range(2)
        ]
    )
    figure = Figure(figsize=(20, 4))
    figure.subplots().plot([1, 2])
    return render_page(
        NAME + "z" * 100,
        sentences=[NAME, "One sentence of some words, then " + "z" * 100],
        figures={NAME: (figure, NAME)},
        tables=result_tables(summarize(rows), rows),
        configuration={"segments": list(rows["segments"]), "network": {"n" * 80: "v" * 100}},
        versions={"torch": "2.13.0+cpu"},
        command="python -m spectrum.study --name " + "z" * 100,
        notes=[NAME],
    )


def study_page() -> str:
    """A page of a study with two schedules, its figures drawn as those of studies are."""
    accuracies = {"1": 0.7, "entry=1+middle=C+exit=C": 0.9, "+".join(["C", "4"] * 17): 0.8}
    rows = results_of({point: [mean, mean + 0.01] for point, mean in accuracies.items()})
    curves = rows.assign(epoch=1)[["run_id", "epoch", "val_top1"]]
    summary = summarize(rows)
    drawn = study_figures(rows, summary, None, curves, title="", for_page=True)
    return render_page(
        "A study",
        sentences=["It is known."],
        figures={stem: (figure, "Its caption.") for stem, figure in drawn.items()},
        tables=result_tables(summary.assign(standing=["", "highest", "equal"]), rows[:0]),
    )


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The measurements in the frames, and the paths that were requested."""
    folder = tmp_path_factory.mktemp("page")
    text = made_up_page()
    bare = "<main>" + INTRUDERS
    policy = re.compile(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>")
    files = {
        "page.html": text,
        "study.html": study_page(),
        "kept.html": text.replace("<main>", bare.replace("{name}", "kept")),
        "open.html": policy.sub("", text.replace("<main>", bare.replace("{name}", "open"))),
        "frames.html": SURROUNDINGS
        % "".join(FRAME.format(name, *frame) for name, frame in FRAMES.items()),
    }
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    requested: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            requested.append(self.path)

    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        dom = dump_dom(f"http://127.0.0.1:{server.server_port}/frames.html", folder)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    found = re.search(r'<pre id="measured">(.+?)</pre>', dom, re.DOTALL)
    assert found is not None, dom
    return {**json.loads(html.unescape(found[1])), "requested": requested}


def dump_dom(address: str, folder: Path) -> str:
    """The document at an address after Chromium has loaded it."""
    options = [
        "--headless",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
        "--disable-dev-shm-usage",
        f"--user-data-dir={folder / 'profile'}",
        "--window-size=1400,1000",
        "--dump-dom",
    ]
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # Chromium's sandbox doesn't work for root
    done = subprocess.run(
        [str(CHROMIUM), *options, address], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("frame", "width"), [("screen", 1280), ("phone", 390), ("dark", 390)])
def test_the_page_never_scrolls_sideways(seen: dict[str, Any], frame: str, width: int) -> None:
    measured = seen["frames"][frame]
    assert width - 20 <= measured["width"] <= width  # less a scroll bar
    assert measured["scrollWidth"] == measured["width"]


def test_tables_scroll_in_their_own_boxes(seen: dict[str, Any]) -> None:
    phone = seen["frames"]["phone"]
    assert len(phone["boxes"]) == 2
    for shown, whole, caption in phone["boxes"]:
        assert whole > shown
        assert 0.5 * shown < caption <= shown  # all of it is visible
    assert seen["frames"]["screen"]["widest"] < 450  # a long reason goes on in another line


@pytest.mark.parametrize("frame", ["screen", "phone", "dark"])
def test_figures_load_and_fit(seen: dict[str, Any], frame: str) -> None:
    measured = seen["frames"][frame]
    ((natural, shown),) = measured["images"]
    assert natural == pytest.approx(20 * 96, abs=1)
    abreast = 2 if frame == "screen" else 1
    assert 0.8 * min(measured["width"], 1000) < abreast * shown < measured["width"]
    assert measured["card"] == "rgb(255, 255, 255)"


def test_figures_stand_two_abreast_on_a_screen_and_one_on_a_phone(seen: dict[str, Any]) -> None:
    screen, phone = (seen["frames"][f"study on a {kind}"] for kind in ("screen", "phone"))
    assert len(screen["lefts"]) == len(phone["lefts"]) == 3
    assert len(set(screen["lefts"])) == 2
    assert screen["tops"][0] == screen["tops"][1]
    assert len(set(phone["lefts"])) == 1
    assert phone["scrollWidth"] == phone["width"]


def test_the_text_of_figures_is_legible(seen: dict[str, Any]) -> None:
    for kind in ("screen", "phone"):
        smallest = seen["frames"][f"study on a {kind}"]["smallest"]
        assert len(smallest) == 3
        assert min(smallest) >= 12
        assert max(smallest) < 20


def test_the_best_comes_first_and_a_phone_shows_both_accuracies(seen: dict[str, Any]) -> None:
    phone = seen["frames"]["study on a phone"]
    assert [row["mark"] for row in phone["rows"]] == ["best", "equal", ""]
    assert [row["strips"] for row in phone["rows"]] == [3, 34, 0]
    texts = [[text for text, _ in row["cells"][:4]] for row in phone["rows"]]
    assert [row[2:] for row in texts] == [
        ["0.9050", "0.8950"],
        ["0.8050", "0.7950"],
        ["0.7050", "0.6950"],
    ]
    assert texts[2][:2] == ["3", "1"]
    for row in phone["rows"]:
        assert all(right < phone["width"] for _, right in row["cells"][:4])


def test_names_appear_unchanged(seen: dict[str, Any]) -> None:
    assert NAME in seen["frames"]["screen"]["text"]
    assert seen["executed"] == "open"  # nothing is executed under the policy


def test_the_page_requests_nothing(seen: dict[str, Any]) -> None:
    pages = {f"/{name}.html" for name in ("frames", "page", "study", "kept", "open")}
    assert set(seen["requested"]) == pages | {f"/open.{kind}" for kind in ("png", "css", "js")}


@pytest.mark.parametrize(("frame", "dark"), [("screen", False), ("phone", False), ("dark", True)])
def test_text_has_contrast(seen: dict[str, Any], frame: str, dark: bool) -> None:
    measured = seen["frames"][frame]
    assert measured["dark"] is dark
    assert (measured["page"] == "rgb(255, 255, 255)") is not dark
    assert len(measured["contrasts"]) > 40
    assert min(measured["contrasts"]) >= 4.5  # WCAG 2.2, AA
