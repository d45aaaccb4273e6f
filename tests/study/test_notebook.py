"""Studies in a notebook: what a real kernel shows of them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

WITHOUT_WIDGETS = "import sys; sys.modules['ipywidgets'] = None"
RUN = """
from spectrum import StudyConfig, run_study
import spectrum.study.outputs
spectrum.study.outputs._draw = lambda *_: None
results = run_study(StudyConfig(
    name="tested", segments="1,C", seeds=1, match="none", epochs=2, workers=1, device="cpu",
    network={"name": "tiny", "width": 0.2}, out="out", runs="runs",
))
len(results)
"""
INTERRUPT = """
import os, signal
from spectrum.study.partial import PartialResults
update = PartialResults.update
def interrupt(self, results):
    if results:
        os.kill(os.getpid(), signal.SIGINT)
PartialResults.update = interrupt
"""
CONTINUE = "PartialResults.update = update"


def executed(folder: Path, *cells: str) -> nbformat.NotebookNode:
    """Executes a notebook of some cells in a kernel in a folder."""
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, allow_errors=True, resources=resources).execute()
    return notebook


def test_without_ipywidgets_there_are_plain_lines_and_ctrl_c_says_how_to_go_on(
    tmp_path: Path,
) -> None:
    notebook = executed(tmp_path, WITHOUT_WIDGETS, INTERRUPT, RUN, CONTINUE, RUN)
    *_, interrupted, _, shown = (cell.outputs for cell in notebook.cells)
    assert interrupted[-1].traceback == [
        "interrupted, 1 of 2 runs done and kept; make the same call again to continue"
    ]
    *lines, value = shown
    assert value.data["text/plain"] == "2"
    texts = [line.data["text/plain"] for line in lines]
    assert any(text.startswith("[2/2] segments C, seed 0: test top-1 0.") for text in texts)
    assert all(output.output_type == "display_data" for output in (*interrupted[:-1], *lines))


@pytest.mark.skipif(find_spec("ipywidgets") is None, reason="needs the extra notebook")
def test_with_ipywidgets_there_is_one_live_bar_alone(tmp_path: Path) -> None:
    notebook = executed(tmp_path, RUN)
    (cell,) = notebook.cells
    bar, end, value = cell.outputs
    assert end.data["text/plain"] == ""  # rich ends a bar with no text
    assert value.data["text/plain"] == "2"
    view, state = (f"application/vnd.jupyter.widget-{kind}+json" for kind in ("view", "state"))
    widget = notebook.metadata.widgets[state]["state"][bar.data[view]["model_id"]]
    assert "2/2" in widget["state"]["outputs"][-1]["data"]["text/plain"]
