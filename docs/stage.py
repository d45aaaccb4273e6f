"""Copy the pages of the site to a folder, from which ``make docs`` builds it.

    python docs/stage.py build/pages

The folder mirrors the repository, so that a relative link leads to the same page on the
repository's web view and on the site. Notebooks become pages with the outputs that are stored in
them. A link to a file that is no page leads to the repository.
"""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from pathlib import Path

from nbconvert import MarkdownExporter
from nbconvert.writers import FilesWriter

ROOT = Path(__file__).parents[1]
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
PAGES = ("*.md", "docs/**/*.md", "studies/*.md", "benchmarks/*.md")
FILES = ("studies/**/*.png", "benchmarks/*.png", "docs/images/*", "docs/*.css")
LINK = re.compile(r"(\]\()((?:\.\./)*[\w./-]+)((?:#[\w-]+)?\))")


def relink(text: str, page: Path, staged: set[Path]) -> str:
    """Return a page's text with links that hold on the site.

    Args:
        text: its Markdown.
        page: its path in the repository.
        staged: what is on the site, as paths in the repository.
    """

    def replace(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        path = (page.parent / target).resolve()
        if path.suffix == ".ipynb":
            target = target.removesuffix(".ipynb") + ".md"
        elif path not in staged and path.exists():
            target = f"{URLS['Homepage']}/blob/main/{path.relative_to(ROOT)}"
        return before + target + after

    return LINK.sub(replace, text)


def stage(folder: Path) -> None:
    """Replace a folder by one with the pages and what they show."""
    shutil.rmtree(folder, ignore_errors=True)
    pages = {path for pattern in PAGES for path in ROOT.glob(pattern)}
    files = {path for pattern in FILES for path in ROOT.glob(pattern)}
    for path in files:
        place = folder / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    for path in pages:
        place = folder / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(relink(path.read_text(), path, pages | files))
    for path in ROOT.glob("notebooks/*.ipynb"):
        text, resources = MarkdownExporter().from_filename(
            path, {"output_files_dir": f"{path.stem}_files"}
        )
        FilesWriter(build_directory=str(folder / "notebooks")).write(
            relink(text, path, pages | files), resources, path.stem
        )


if __name__ == "__main__":
    stage(Path(sys.argv[1]))
