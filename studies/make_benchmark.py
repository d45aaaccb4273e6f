"""Writes the tables of ``spectrum.load_benchmark`` from the folders beside this file."""

from __future__ import annotations

from pathlib import Path

import spectrum.analysis
from spectrum.analysis.benchmark import CURVES, RUNS, collect_benchmark


def main() -> None:
    """Write both tables."""
    studies, package = Path(__file__).parent, Path(spectrum.analysis.__file__).parent
    folders = sorted(path.parent for path in studies.glob("*/study.json"))
    for name, table in zip((RUNS, CURVES), collect_benchmark(folders), strict=True):
        compression = {"method": "gzip", "mtime": 1}  # equal tables are equal files
        table.to_csv(package / name, index=False, compression=compression)
        print(f"{name}: {len(table):,} rows of {len(folders)} studies")


if __name__ == "__main__":
    main()
