"""What the machine's memory costs, in processes of their own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from spectrum.machine import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()

def step():
    torch.ones(1 << 24)  # 64 MiB, which the C library never keeps by itself

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(30):
    step()
before = faults()
for _ in range(10):
    step()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_kept_memory_costs_no_page_faults() -> None:
    faults = {}
    for choice in ("keep", "give_back"):
        command = [sys.executable, "-c", FAULTS, choice]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        faults[choice] = int(result.stdout)
    assert 10 * faults["keep"] < faults["give_back"]
