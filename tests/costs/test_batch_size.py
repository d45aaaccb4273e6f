from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from spectrum import measure_costs, xception
from spectrum.costs import find_batch_size, make_workload
from spectrum.costs.batch_size import largest_fitting_size, peak_memory_by_size
from spectrum.kernels import using_plan

SHAPE = (1, 8, 8)


@pytest.fixture(autouse=True)
def _natively() -> Iterator[None]:
    # The kernels' buffers grow with small batches only, so the prediction would be too large.
    with using_plan("native"):
        yield


def network() -> nn.Module:
    return xception("C/4", preset="tiny", num_classes=10, in_channels=1, width=0.2)


def peak(batch_size: int, training: bool) -> int:
    costs = measure_costs(network(), SHAPE, batch_size, training=training, seconds=0)
    return costs.peak_memory


@pytest.mark.parametrize("training", [False, True])
def test_the_peak_of_a_batch_is_predicted_from_two_small_ones(training: bool) -> None:
    predicted = peak_memory_by_size(lambda n: make_workload(network(), SHAPE, n, training=training))
    for size in (2, 8, 32):
        assert predicted(size) == pytest.approx(peak(size, training), rel=0.03)


def test_the_peak_may_be_at_another_moment_for_large_batches() -> None:
    # The peak of few images is at the gradients of the wide layers, that of many images before.
    layers = [nn.Flatten(), nn.Linear(16, 4096), nn.ReLU(), nn.Linear(4096, 2)]
    model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), *layers)
    predicted = peak_memory_by_size(lambda n: make_workload(model, SHAPE, n, training=True))
    slopes = [predicted(n + 1) - predicted(n) for n in (2, 512)]
    assert slopes[1] > 1.1 * slopes[0]
    measured = measure_costs(model, SHAPE, 256, training=True, seconds=0).peak_memory
    assert predicted(256) == pytest.approx(measured, rel=0.02)


def test_the_prediction_is_an_upper_bound_where_steps_differ_by_size() -> None:
    class Growing(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [image + 1 for image in x]  # as many tensors as images

    predicted = peak_memory_by_size(lambda n: make_workload(Growing(), SHAPE, n))
    for size in (1, 2, 4, 8, 64):
        assert make_workload(Growing(), SHAPE, size).peak_memory() <= predicted(size)


@pytest.mark.parametrize(("training", "size"), [(False, 2), (True, 16)])
def test_the_size_is_the_largest_that_fits(training: bool, size: int) -> None:
    for memory in (1.05 * peak(size, training), 0.9 * peak(2 * size, training)):
        assert find_batch_size(network(), SHAPE, training=training, memory=int(memory)) == size


def test_without_a_limit_the_free_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    free = int(1.05 * peak(8, True) / 0.8)
    monkeypatch.setattr("spectrum.costs.batch_size.memory_available", lambda: free)
    assert find_batch_size(network(), SHAPE) == 8
    assert find_batch_size(network(), SHAPE, largest=4) == 4
    assert find_batch_size(network(), SHAPE, largest=7) == 4
    monkeypatch.setattr("spectrum.costs.batch_size.memory_available", lambda: 2**40)
    assert find_batch_size(network(), SHAPE, largest=2**14) == 2**14  # no such batch is run


def filling(most: int, error: Exception) -> tuple[list[int], Callable[[int], int]]:
    """A fake GPU with room for ``most`` images of 10 bytes, and the sizes tried on it."""
    tried: list[int] = []

    def peak(size: int) -> int:
        tried.append(size)
        if size > most:
            raise error
        return 10 * size

    return tried, peak


def test_running_out_of_memory_ends_the_search() -> None:
    tried, peak = filling(37, RuntimeError("out of memory"))
    assert largest_fitting_size(peak, 2, 1024, memory=None) == 32
    assert tried == [2, 4, 8, 16, 32, 64]
    assert largest_fitting_size(peak, 1, 16, memory=None) == 16
    assert largest_fitting_size(peak, 1, 1024, memory=100) == 8
    with pytest.raises(ValueError, match=r"memory \(='all there is'\) must have room"):
        largest_fitting_size(peak, 64, 1024, memory=None)
    with pytest.raises(ValueError, match=r"memory \(=5\) must have .* which needs 20 bytes"):
        largest_fitting_size(peak, 2, 1024, memory=5)


def test_other_errors_are_raised() -> None:
    _, peak = filling(4, RuntimeError("a kernel failed"))
    with pytest.raises(RuntimeError, match="a kernel failed"):
        largest_fitting_size(peak, 1, 1024, memory=None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"largest": 1}, r"largest \(=1\) must be a whole number from 2"),
        ({"largest": 0, "training": False}, r"largest \(=0\) must be a whole number from 1"),
        ({"memory": 0}, r"memory \(=0\) must be a whole number from 1"),
        ({"memory": 1000}, r"memory \(=1000\) must have room for a batch of 2, which needs \d+ b"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_batch_size(network(), SHAPE, **arguments)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu() -> None:
    free, _ = torch.cuda.mem_get_info()
    images = free // (4 * 64 * 1024 * 1024)

    class Filling(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.new_empty(len(x), 64, 1024, 1024)

    found = find_batch_size(Filling(), (1, 1, 1), "cuda", training=False)
    assert images / 4 < found <= images
