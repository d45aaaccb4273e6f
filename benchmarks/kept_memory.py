"""What it gains to keep freed memory: training steps of small networks with and without.

    python benchmarks/kept_memory.py

Each measurement is a process of its own, since a process can't go back. The two kinds take turns.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import numpy as np

SIZES = {8: 32, 14: 64, 28: 64}  # of images, with the batch
SEGMENTS = ("1", "4", "C/8", "C/2", "C")
SECONDS = 1.5  # for each network
REPEATS = 3


def time_steps(kept: bool) -> None:
    """Print the milliseconds and the page faults of a step of each network."""
    import torch
    from torch.nn.functional import cross_entropy

    from spectrum import NetworkConfig, build
    from spectrum.machine import keep_freed_memory

    torch.set_num_threads(1)
    if kept:
        keep_freed_memory()
    for size, batch in SIZES.items():
        images = torch.randn(batch, 1, size, size).to(memory_format=torch.channels_last)
        labels = torch.randint(10, (batch,))
        for segments in SEGMENTS:
            config = NetworkConfig(name="tiny", segments=segments, num_classes=10, in_channels=1)
            network = build(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
            times: list[float] = []
            while sum(times) < SECONDS:
                faults = -resource.getrusage(resource.RUSAGE_SELF).ru_minflt
                start = time.perf_counter()
                optimizer.zero_grad()
                cross_entropy(network(images), labels).backward()
                optimizer.step()
                times.append(time.perf_counter() - start)
                faults += resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            print(1000 * sorted(times)[len(times) // 2], faults)


def run_process(kept: bool) -> np.ndarray:
    """The table that a process prints."""
    command = [sys.executable, __file__, "kept" if kept else "given_back"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return np.array([line.split() for line in result.stdout.splitlines()], dtype=float)


def main() -> None:
    """Print the medians over the processes, and their ratio."""
    tables = {True: [], False: []}  # type: dict[bool, list[np.ndarray]]
    for _ in range(REPEATS):
        for kept in tables:
            tables[kept].append(run_process(kept))
    given_back, kept_ones = (np.median(tables[kept], axis=0) for kept in (False, True))
    print("tiny, one thread, milliseconds (page faults) of a training step")
    print("images  batch  segments     given back          kept   ratio")
    rows = [(size, segments) for size in SIZES for segments in SEGMENTS]
    for (size, segments), before, after in zip(rows, given_back, kept_ones, strict=True):
        cells = "".join(f"{ms:9.1f} ({faults:5.0f})" for ms, faults in (before, after))
        ratio = before[0] / after[0]
        print(f"{size:3}x{size:<3}  {SIZES[size]:4}  {segments:8}{cells}  {ratio:5.2f}x")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        time_steps(sys.argv[1] == "kept")
    else:
        main()
