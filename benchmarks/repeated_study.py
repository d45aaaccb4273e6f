"""Compares a study with its repetition: ``repeated_study.py COMMITTED REPEATED``.

On the same kind of processor, with the same versions, a repetition gives the same numbers to the
last digit. Elsewhere rounding differs, and each mean should lie in the interval of the first.
"""

import sys

import pandas as pd

from spectrum import load_results
from spectrum.analysis.evidence import analyze_study


def main(committed: str, repeated: str) -> None:
    """Prints the two means of every point, and how many runs are equal."""
    first, again = analyze_study(committed), load_results(repeated)
    both = first.rows.merge(again, on="run_id", suffixes=("", "_again"), validate="one_to_one")
    means = both.groupby("segments", sort=False)["test_top1_again"].mean()
    rows = first.summary.set_index("segments")[["test_top1", "test_low", "test_high"]]
    rows = rows.join(means.rename("repeated"))
    rows["inside"] = rows["repeated"].between(rows["test_low"], rows["test_high"])
    print(rows.to_string(float_format="{:.4f}".format))
    equal = (both["test_top1"] == both["test_top1_again"]).sum()
    print(f"{equal} of {len(both)} runs have the same accuracy to the last digit")
    origin = again[["processor", "cpu_capability", "python", "torch", "spectrum"]]
    with pd.option_context("display.width", 120):
        print(origin.drop_duplicates().to_string(index=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
