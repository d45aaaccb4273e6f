"""Normalisation with the ReLU behind it equals the modules called one after the other."""

import copy

import pytest
import torch
from torch import Tensor, nn

from spectrum.layers import Chain, normalize
from spectrum.layers.normalize import _by_kernel

SHAPE = (3, 20, 50, 48)  # large enough for the kernel


def _norm(**options: bool) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(20, **options)
    if norm.affine:
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    return norm


def _images(dtype: torch.dtype = torch.float32) -> Tensor:
    scaled = 3 * torch.randn(SHAPE) + torch.arange(20.0)[:, None, None]
    return scaled.to(dtype).to(memory_format=torch.channels_last)


def _passes(norm: nn.BatchNorm2d, x: Tensor, relu: bool, ours: bool) -> list[Tensor]:
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    following = nn.ReLU() if relu else None
    if ours:
        assert _by_kernel(norm, x, following)
        y = normalize(norm, x, following)
    else:
        y = norm(x)
        y = torch.relu(y) if relu else y
    direction = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3)).to(y.dtype)
    gradients = torch.autograd.grad(y, (x, norm.weight, norm.bias), direction)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return [y.detach(), *gradients, norm.running_mean, norm.running_var]


@pytest.fixture(autouse=True)
def _measured() -> None:
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("the kernel is used on CPUs with AVX-512 alone")


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_equals_float64(dtype: torch.dtype, relu: bool) -> None:
    norm, x = _norm(), _images(dtype)
    double = copy.deepcopy(norm).double()
    found = _passes(norm, x, relu, ours=True)
    expected = _passes(double, x.double(), relu, ours=False)
    assert norm.num_batches_tracked == 1
    for one, wanted in zip(found, expected, strict=True):
        error = (one.double() - wanted).abs()
        if one.dim() == 4:
            # Where the ReLU cuts, rounding may fall on either side.
            error = error.flatten().sort().values[: -10 - error.numel() // 10_000]
        assert error.max() <= (1e-2 if dtype == torch.bfloat16 else 1e-5) * wanted.abs().max()


def test_a_large_mean_does_not_swallow_the_variance() -> None:
    x = (_images() + 3000).contiguous(memory_format=torch.channels_last)
    y = normalize(_norm(affine=True), x)
    expected = nn.functional.batch_norm(x.double(), None, None, training=True)
    weight_free = nn.BatchNorm2d(20)
    found = normalize(weight_free, x)
    assert (found.double() - expected).abs().max() < 1e-2
    assert y.shape == found.shape


def test_evaluation_equals_the_modules() -> None:
    norm, x = _norm().eval(), _images()
    with torch.no_grad():
        assert _by_kernel(norm, x, None)
        torch.testing.assert_close(normalize(norm, x), norm(x))
    assert not _by_kernel(norm, x, None)  # gradients by fixed statistics are the library's


def test_gradients_can_be_differentiated_again() -> None:
    norm, x = _norm(), _images()
    twice = []
    for ours in (True, False):
        given = x.clone(memory_format=torch.preserve_format).requires_grad_()
        relu = nn.ReLU()
        y = normalize(norm, given, relu) if ours else relu(norm(given))
        (slope,) = torch.autograd.grad(y.square().sum(), given, create_graph=True)
        twice.append(torch.autograd.grad(slope.square().sum(), (given, norm.weight)))
    for one, other in zip(*twice, strict=True):
        assert (one - other).abs().max() <= 1e-2 * other.abs().max()


@pytest.mark.parametrize(
    "norm",
    [
        _norm(affine=False),
        _norm(track_running_stats=False),
        nn.BatchNorm2d(20, momentum=None),
        nn.BatchNorm2d(20).double(),
        nn.SyncBatchNorm(20),
    ],
)
def test_what_the_kernel_does_not_know_is_left_to_the_library(norm: nn.Module) -> None:
    relu = nn.ReLU()
    assert not _by_kernel(norm, _images(), relu)  # type: ignore[arg-type]


def test_hooks_are_called_and_small_images_left_alone() -> None:
    norm, relu, x = _norm(), nn.ReLU(), _images()
    assert not _by_kernel(norm, x[:, :, :8, :8].contiguous(), relu)
    seen: list[Tensor] = []
    handle = norm.register_forward_hook(lambda module, given, y: seen.append(y))
    normalize(norm, x, relu)
    handle.remove()
    relu.register_forward_hook(lambda module, given, y: seen.append(y))
    normalize(norm, x, relu)
    assert len(seen) == 2


def test_a_chain_is_a_sequence() -> None:
    chain = Chain(nn.Conv2d(20, 20, 1), _norm(), nn.ReLU(), nn.Conv2d(20, 20, 1), _norm())
    plain = nn.Sequential(*copy.deepcopy(chain))
    x = _images()
    torch.testing.assert_close(chain(x), plain(x), rtol=1e-4, atol=1e-4)
    assert list(chain.state_dict()) == list(plain.state_dict())
    torch.testing.assert_close(chain[1].running_var, plain[1].running_var)
    compiled = torch.compile(chain.eval(), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), plain.eval()(x), rtol=1e-4, atol=1e-4)
