import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from spectrum import measure_costs, xception
from spectrum.costs import make_workload

QUICK = {"seconds": 0.02}


def network() -> nn.Module:
    return xception("C/4", preset="tiny", num_classes=10, in_channels=1, width=0.2, dropout=0.5)


class Recorder(nn.Module):
    """Records what it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 3)
        self.seen: list[tuple[object, ...]] = []

    def __deepcopy__(self, memo: dict[int, object]) -> "Recorder":
        duplicate = Recorder()
        duplicate.seen = self.seen  # shared with the copy
        return duplicate

    def forward(self, x: Tensor) -> Tensor:
        logits = self.linear(x.flatten(1))
        channels_last = x.is_contiguous(memory_format=torch.channels_last)
        self.seen.append(
            (tuple(x.shape), channels_last, logits.dtype, self.training, logits.requires_grad)
        )
        return logits


def test_latency_and_images_per_second_agree() -> None:
    costs = measure_costs(network(), (1, 8, 8), 4, **QUICK)
    low, high = costs.latency_interval
    assert 0 < low <= costs.latency <= high
    assert costs.images_per_second == 4 / costs.latency
    assert costs.images_per_second_interval == (4 / high, 4 / low)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("precision", "channels_last"), [("float32", True), ("bfloat16", False), ("float16", True)]
)
def test_the_step_has_the_given_options(
    training: bool, channels_last: bool, precision: str
) -> None:
    model = Recorder()
    options = {"training": training, "channels_last": channels_last}
    measure_costs(model, (3, 2, 2), 5, precision=precision, **options, **QUICK)
    expected = ((5, 3, 2, 2), channels_last, getattr(torch, precision), training, training)
    assert set(model.seen) == {expected}


def test_the_network_and_the_random_state_stay_as_they_were() -> None:
    model = network().train()
    model.get_submodule("entry").eval()
    before = copy.deepcopy(model)
    strides = [p.stride() for p in model.parameters()]
    random_state = torch.get_rng_state()
    measure_costs(model, (1, 8, 8), 4, training=True, channels_last=True, **QUICK)
    assert torch.equal(torch.get_rng_state(), random_state)
    for name, tensor in before.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    assert [p.stride() for p in model.parameters()] == strides
    assert all(p.grad is None for p in model.parameters())


def test_training_steps_leave_the_weights_unchanged() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    seen: list[Tensor] = []
    model[1].register_forward_hook(lambda module, *_: seen.append(module.weight.detach().clone()))
    measure_costs(model, (1, 2, 2), 4, training=True, **QUICK)
    assert len(seen) > 7
    assert torch.equal(seen[0], seen[-1])


def linear_chain(*sizes: int) -> nn.Sequential:
    layers = [nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(sizes)]
    return nn.Sequential(nn.Flatten(), *layers)


def test_peak_memory_of_inference_by_hand() -> None:
    # Weights, images, and at the peak a layer's input and output; the input of the first layer is
    # the images.
    costs = measure_costs(linear_chain(100, 500, 300, 50), (100, 1, 1), 8, **QUICK)
    weights = 100 * 500 + 500 * 300 + 300 * 50
    assert costs.peak_memory == 4 * (weights + 8 * 100 + 8 * (500 + 300))


def test_peak_memory_of_training_by_hand() -> None:
    # At the peak the gradient of the wide weight is computed from that of its output. The gradient
    # of the narrow weight exists already, and the activations are released.
    batch, wide, classes = 64, 2000, 2
    costs = measure_costs(
        linear_chain(1000, wide, classes), (1000, 1, 1), batch, training=True, **QUICK
    )
    weights = 1000 * wide + wide * classes
    expected = 4 * (weights + batch * 1000 + weights + batch * wide)
    logits = 4 * batch * classes
    assert expected <= costs.peak_memory <= expected + 8 * logits + 8 * batch


def test_existing_gradients_are_not_part_of_the_peak() -> None:
    model = linear_chain(50, 40, 3)
    clean = make_workload(model, (50, 1, 1), 4, training=True).peak_memory()
    model(torch.ones(1, 50, 1, 1)).sum().backward()
    assert make_workload(model, (50, 1, 1), 4, training=True).peak_memory() == clean


def test_several_heads_are_all_trained() -> None:
    trained: set[str] = set()

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main, self.other = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            main, other = self.main(x.flatten(1)), self.other(x.flatten(1))
            main.register_hook(lambda _: trained.add("main"))
            other.register_hook(lambda _: trained.add("other"))
            return main, other

    measure_costs(Heads(), (1, 2, 2), 2, training=True, **QUICK)
    assert trained == {"main", "other"}


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (network(), {"batch_size": 0}, r"batch_size \(=0\) must be a whole number from 1"),
        (network(), {"batch_size": 10**14}, r"batch_size \(=10*\) must be at most 10000000\Z"),
        (
            network(),
            {"batch_size": 10**7, "input_shape": (1, 999, 999)},
            r"batch_size \(=10*\) must fit in memory: its images have [\d,]+ bytes, and [\d,]+ are",
        ),
        (
            network(),
            {"precision": "float64"},
            r"precision \(='float64'\) must be one of float32",
        ),
        (network(), {"device": "tpu"}, r"device \(='tpu'\) must be one of cpu.* here"),
        (network(), {"input_shape": (1, 8)}, r"input_shape \(=1,8\) must be \(channels, height, w"),
        (
            network(),
            {"input_shape": (3, 8, 8)},
            r"input_shape \(='3x8x8'\) doesn't fit the network",
        ),
        (network(), {"seconds": -1}, r"seconds \(=-1\) must be a number from 0 to 86400"),
        (nn.Conv2d(1, 1, 1, device="meta"), {}, r"network \(='Conv2d'\) must have weights"),
        (nn.ReLU(), {}, r"network \(='ReLU'\) must have trainable parameters"),
        (nn.Conv2d(1, 2, 1), {}, r"must give logits \(N, classes\), not \(1, 2, 8, 8\)"),
    ],
)
def test_what_cannot_be_measured(
    model: nn.Module, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        measure_costs(model, **{"input_shape": (1, 8, 8), "training": True, **QUICK, **arguments})


def test_memory_that_runs_out_keeps_its_exception() -> None:
    class Greedy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.new_empty(2**60)

    with pytest.raises(RuntimeError, match="allocate memory"):
        measure_costs(Greedy(), (1, 8, 8))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("training", [False, True])
def test_on_a_gpu(training: bool) -> None:
    model = linear_chain(1024, 2048, 16)
    costs = measure_costs(model, (1024, 1, 1), 32, "cuda", training=training, **QUICK)
    assert costs.latency > 0
    assert next(model.parameters()).device.type == "cpu"
    weights = 1024 * 2048 + 2048 * 16
    held = weights + 32 * 1024 + 32 * 2048 + (weights if training else 0)
    assert 4 * held <= costs.peak_memory <= 4 * held * 1.1 + 2**25  # with cuBLAS's workspace
