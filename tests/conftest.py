import gc
import os
import sys
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--without-kernels",
        action="store_true",
        help="hide spectrum.kernels, so that torch's own operators run",
    )
    parser.addoption(
        "--examples",
        type=int,
        default=25,
        help="how many cases hypothesis draws for a test that doesn't say, such as those of damage",
    )


def pytest_configure(config: pytest.Config) -> None:
    settings.register_profile(
        "spectrum",
        max_examples=config.getoption("--examples"),
        derandomize=config.getoption("--examples") == 25,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    settings.load_profile("spectrum")
    if config.getoption("--without-kernels"):
        sys.modules["spectrum.kernels"] = None  # an import raises ImportError
        from spectrum.layers import acceleration

        acceleration.kernels = None  # the conftest of a folder may have imported it before


def pytest_collection_finish() -> None:
    # The objects of imported libraries live on; looking for garbage among them takes long.
    gc.set_threshold(10_000)
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    # Runs have one thread each; with more, tiny tensors only wait for each other.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    # The user's cache is left alone.
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # of the processes that share these tests: one compiles for all
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        yield
