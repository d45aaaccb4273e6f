"""Kernels are compiled before a training begins, and none while it is timed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from pathlib import Path
import torch
from torch import nn
from spectrum import SegmentedConv
from spectrum.kernels import compile_kernels, prepare, using_plan
from spectrum.layers.acceleration import compile_kernels

prepare.is_measured = lambda cpu: True  # as on a CPU whose plans were measured
last, dtype = sys.argv[1] == "channels_last", getattr(torch, sys.argv[2])
layers = (SegmentedConv(24, 24, segments=n) for n in (24, 12, 5, 3))
network = nn.Sequential(*layers, nn.BatchNorm2d(24)).to(dtype)
compile_kernels(network, dtype, last)
cache = Path(sys.argv[3])
files = {path for path in cache.rglob("*") if path.is_file()}
assert files, "nothing was compiled"
layout = torch.channels_last if last else torch.contiguous_format
x = torch.randn(2, 24, 7, 7).to(dtype).to(memory_format=layout)
with using_plan("kernel"):
    network(x).sum().backward()
assert {path for path in cache.rglob("*") if path.is_file()} == files, "a kernel was compiled late"
"""


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_finds_all_kernels_compiled(precision: str, layout: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    subprocess.run(
        [sys.executable, "-c", SCRIPT, layout, precision, str(tmp_path)],
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
        check=True,
        timeout=300,
    )
