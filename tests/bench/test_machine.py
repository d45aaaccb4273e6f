"""The description of the machine, and the settings while it is measured."""

from __future__ import annotations

import torch

from spectrum.bench.machine import benchmark_settings, describe_machine


def test_threads_and_tf32_are_set_and_restored() -> None:
    threads, tf32 = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    with benchmark_settings(2):
        assert torch.get_num_threads() == 2
        assert not torch.backends.cudnn.allow_tf32
        assert ", 2 threads, " in describe_machine("cpu")
    assert (torch.get_num_threads(), torch.backends.cudnn.allow_tf32) == (threads, tf32)
    with benchmark_settings(None):
        assert torch.get_num_threads() == threads


def test_the_machine_is_named_with_the_version_and_without_a_date() -> None:
    with benchmark_settings(1):
        assert describe_machine("cpu").endswith(f" cores, 1 thread, torch {torch.__version__}")
        assert describe_machine("cpu") == describe_machine("cpu")
