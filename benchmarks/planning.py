"""Times what planning a study takes beyond ``import torch``, in two checkouts in alternation.

    python benchmarks/planning.py BEFORE AFTER [STUDY ...] [--repeats N]

The time is that of the CPU, of the user and the system, which other processes change least. Each
dry run is timed with an empty cache and then with the cache that it has left.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

STUDIES = Path(__file__).resolve().parents[1] / "studies"


def cpu_seconds(arguments: list[str], checkout: Path, cache: str) -> float:
    """The CPU seconds of a Python process that imports the package of a checkout."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(checkout), "XDG_CACHE_HOME": cache}
    subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=cache, check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print a row for each study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkouts", nargs=2, type=Path)
    parser.add_argument("studies", nargs="*", default=["default", "families", "fashion_space"])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print("study | before, empty cache | after | before, filled cache | after")
    print("---|---:|---:|---:|---:")
    for study in options.studies:
        times: list[list[float]] = [[], [], [], []]
        for _ in range(options.repeats):
            for i, checkout in enumerate(options.checkouts):
                with tempfile.TemporaryDirectory() as cache:
                    torch = cpu_seconds(["-c", "import torch"], checkout, cache)
                    plan = ["-m", "spectrum.study", str(STUDIES / f"{study}.toml"), "--dry-run"]
                    for place in (i, i + 2):
                        times[place].append(cpu_seconds(plan, checkout, cache) - torch)
        print(study, *(f"{median(found):.1f} s" for found in times), sep=" | ", flush=True)


if __name__ == "__main__":
    main()
