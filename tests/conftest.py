import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    # Runs have one thread each; with more, tiny tensors only wait for each other.
    torch.set_num_threads(1)
