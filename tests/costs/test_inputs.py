"""The error for an input that a network can't process."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from spectrum.costs import count_costs
from spectrum.costs.inputs import record_calls


def refusal(network: nn.Module, *shape: int) -> str:
    with pytest.raises(ValueError, match=r"\Ainput_shape \(=") as caught:
        count_costs(network, shape)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def valid(*kernels: int) -> nn.Module:
    """Convolutions without padding, whose smallest input has a side of 1 + sum(k - 1)."""
    return nn.Sequential(*(nn.Conv2d(3, 3, k) for k in kernels))


@pytest.mark.parametrize(
    ("kernels", "side"),
    [((3, 3), 5), ((7, 3), 9), ((200, 100, 2), 300), ((1024,), 1024)],
)
def test_the_smallest_side_is_named(kernels: tuple[int, ...], side: int) -> None:
    network = valid(*kernels)
    assert f", which needs at least {side}x{side}: " in refusal(network, 3, 1, 1)
    if torch.__version__ >= (2, 13):  # torch 2.11's meta device takes sides of which one fits
        assert f" {side}x{side}: " in refusal(network, 3, side - 1, side + 90)
    assert count_costs(network, (3, side, side)).macs > 0


@pytest.mark.parametrize("size", [10**6, 10**9, 10**30, 10**400])
@pytest.mark.parametrize("place", range(3))
def test_a_shape_without_end_is_refused(size: int, place: int) -> None:
    shape = [3, 8, 8]
    shape[place] = size
    assert refusal(nn.Conv2d(3, 3, 3), *shape).endswith("must be at most 999999")


def test_images_that_fill_the_memory_are_refused_before_they_are_made() -> None:
    said = refusal(nn.Conv2d(3, 3, 3), 3, 999_999, 999_999)
    assert "must fit in memory: its images have 11,999,976,000,012 bytes, and " in said
    # No side of this number of channels fits, and no image is made to find that out.
    assert "needs at least" not in refusal(nn.Conv2d(3, 3, 3), 999_999, 8, 8)
    meta = nn.Conv2d(3, 3, 3, device="meta")
    assert record_calls(meta, (3, 999_999, 999_999))[0].output_shape == (3, 999_997, 999_997)


def test_a_side_within_a_narrow_range_is_found() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 3, stride=32), nn.Flatten(), nn.Linear(2 * 49, 5))
    # (side - 3) // 32 + 1 = 7 from 195 to 226.
    assert "which needs at least 195x195: " in refusal(network, 3, 32, 32)
    assert "needs" not in refusal(network, 3, 299, 299)  # no larger side fits


@pytest.mark.parametrize("kernel", [1, 1025], ids=["channels", "beyond 1024"])
def test_only_the_reason_is_given_if_no_size_fits(kernel: int) -> None:
    said = refusal(nn.Conv2d(3, 3, kernel), 4 if kernel == 1 else 3, 8, 8)
    assert "doesn't fit the network: " in said


def test_the_search_leaves_the_network_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.Dropout()).train()
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    parameters = list(network.parameters())
    assert "3x3" in refusal(network, 3, 2, 2)
    assert all(a is b for a, b in zip(network.parameters(), parameters, strict=True))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [module.training for module in network] == [True, False, True]


class Failing(nn.Module):
    """Gives its input back for a number of passes, then raises an error."""

    def __init__(self, error: Exception, passes: int = 0) -> None:
        super().__init__()
        self.error = error
        self.passes = passes

    def forward(self, x: Tensor) -> Tensor:
        if self.passes == 0:
            raise self.error
        self.passes -= 1
        return x


@pytest.mark.parametrize(
    ("error", "reason"),
    [(AssertionError(), "AssertionError"), (TypeError("one\ntwo"), "TypeError: one")],
    ids=repr,
)
def test_any_exception_of_a_module_becomes_one_line(error: Exception, reason: str) -> None:
    assert refusal(Failing(error), 3, 8, 8).endswith(f"doesn't fit the network: {reason}")


def test_a_module_that_cannot_be_traced_is_refused_in_one_line() -> None:
    network = Failing(RuntimeError("no more\nthan once"), passes=1)  # the trace is the second
    with pytest.raises(ValueError, match=r"can't be traced: RuntimeError: no more\Z"):
        count_costs(network, (3, 8, 8))
