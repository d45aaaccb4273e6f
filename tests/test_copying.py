"""A copy uses nothing of the original, whatever holds the original's layers."""

from __future__ import annotations

import functools
import operator
import threading
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from spectrum.copying import copy_module
from spectrum.networks import convert, resegment
from spectrum.training.state import averaged_model

IMAGES = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.b = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.b(self.a(x)))


@dataclass
class Held:
    layer: Any

    def __call__(self, x: Tensor) -> Tensor:
        return self.layer(x)

    def again(self, x: Tensor) -> Tensor:
        return self.layer(x)


def in_closure(value: Any) -> Callable[[Tensor], Tensor]:
    return lambda x: value(x)


def in_default(value: Any) -> Callable[[Tensor], Tensor]:
    return lambda x, old=value: old(x)


def in_keyword_default(value: Any) -> Callable[[Tensor], Tensor]:
    def call(x: Tensor, *, old: Any = value) -> Tensor:
        return old(x)

    return call


def in_attribute(value: Any) -> Callable[[Tensor], Tensor]:
    def call(x: Tensor) -> Tensor:
        return call.value(x)  # type: ignore[attr-defined, no-any-return]

    call.value = value  # type: ignore[attr-defined]
    return call


def in_container(make: Callable[[Any], Any], get: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: functools.partial(lambda held, x: get(held)(x), make(value))


def itself_in_closure(value: Any) -> Callable[[Tensor], Tensor]:
    def call(x: Tensor, again: bool = True) -> Tensor:
        return call(x, again=False) if again else value(x)

    return call


def decorated(value: Any) -> Callable[[Tensor], Tensor]:
    @functools.wraps(value, updated=())
    def call(x: Tensor) -> Tensor:
        return value(x)

    return torch.enable_grad()(call)


HOLDERS: dict[str, Callable[[Any], Callable[[Tensor], Tensor]]] = {
    "closure": in_closure,
    "default": in_default,
    "keyword default": in_keyword_default,
    "attribute": in_attribute,
    "recursion": itself_in_closure,
    "decorator": decorated,
    "partial": lambda value: functools.partial(in_closure(value)),
    "list": in_container(lambda v: [v], lambda held: held[0]),
    "dict": in_container(lambda v: {"x": (v,)}, lambda held: held["x"][0]),
    "object": Held,
    "bound method": lambda value: Held(value).again,
    "method": lambda value: types.MethodType(lambda self, x: self(x), value),
    "closures": lambda value: in_closure(in_default(in_closure(Held(in_closure(value))))),
}


def replace_forward(model: Model, make: Any) -> None:
    model.forward = make(model.forward)  # type: ignore[method-assign]


def replace_childs_forward(model: Model, make: Any) -> None:
    model.norm.forward = make(model.a)  # type: ignore[method-assign]


def hook(model: Model, make: Any) -> None:
    call = make(model.a)
    model.b.register_forward_pre_hook(lambda _, inputs: (call(inputs[0]),))


def hook_of_all(model: Model, make: Any) -> None:
    call = make(model.b)
    model.norm.register_forward_hook(lambda _, _inputs, y: call(y))


def hook_tensor(model: Model, make: Any) -> None:
    model.norm.weight.register_hook(make(lambda gradient: gradient * model.norm.bias.sum()))


PLACES = [replace_forward, replace_childs_forward, hook, hook_of_all, hook_tensor]


def gradients(model: nn.Module) -> dict[str, Tensor]:
    model.zero_grad()
    model(IMAGES).square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("holder", HOLDERS)
def test_functions_over_layers_are_made_anew(holder: str, place: Any) -> None:
    torch.manual_seed(0)
    model = Model()
    place(model, HOLDERS[holder])
    own = gradients(model)
    copied = copy_module(model.eval())
    model.zero_grad()
    torch.testing.assert_close(copied(IMAGES), model(IMAGES))
    torch.testing.assert_close(gradients(copied.train()), own)
    assert all(p.grad is None for p in model.parameters())
    with torch.no_grad():  # what happens to the original leaves the copy alone
        before = copied(IMAGES)
        for parameter in model.parameters():
            parameter.zero_()
        torch.testing.assert_close(copied(IMAGES), before)
    for change in (convert, resegment):
        changed = change(model, 2, check=IMAGES)
        torch.testing.assert_close(changed.eval()(IMAGES), model.eval()(IMAGES))


def test_an_averaged_model_is_a_copy_too() -> None:
    model = Model()
    replace_forward(model, in_closure)
    averaged = averaged_model(model, 0.9)
    assert isinstance(averaged, AveragedModel)
    before = averaged(IMAGES)
    with torch.no_grad():
        model.norm.bias.add_(1)
    assert torch.equal(averaged(IMAGES), before)


def test_a_class_over_the_original_is_refused_unless_only_its_making_needs_it() -> None:
    model = Model()

    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.call = lambda x: x * model.norm.weight.mean()

        def forward(self, x: Tensor) -> Tensor:
            return self.call(x)

    model.b = nn.Sequential(model.b, Scale())
    torch.testing.assert_close(copy_module(model)(IMAGES), model(IMAGES))
    Scale.forward = lambda self, x: model.a(x)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"through the class of b.1, the copy would still use"):
        copy_module(model)


def test_what_holds_no_layer_stays_shared_with_the_original() -> None:
    model, seen = Model(), []  # type: ignore[var-annotated]
    model.a.register_forward_hook(lambda _, _inputs, y: seen.append(y.detach()))
    scale = in_closure(model.b)
    model.norm.register_forward_hook(lambda _, _inputs, y: (seen.append(y.detach()), scale(y))[1])
    copy_module(model)(IMAGES)
    assert len(seen) == 2


GLOBAL: list[nn.Module] = []


def over_a_global(x: Tensor) -> Tensor:
    return GLOBAL[0](x)  # type: ignore[no-any-return]


def by_a_global_name(model: Model) -> Any:
    GLOBAL[:] = [model.a]
    return over_a_global


def in_a_class(model: Model) -> Any:
    layer = model.a

    class Local:
        def __call__(self, x: Tensor) -> Tensor:
            return layer(x)

    return Local()


REFUSED: dict[str, Callable[[Model], Any]] = {
    "global": by_a_global_name,
    "partial over a global": lambda m: functools.partial(by_a_global_name(m)),
    "class": in_a_class,
    "weak reference": lambda m: weakref.ref(m.a),
    "cache": lambda m: functools.lru_cache(in_closure(m.a)),
    "method in C": lambda m: m.a.weight.mul,
    "closure over a method in C": lambda m: in_closure(m.a.bias.add),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize(
    "change", [copy_module, lambda m: convert(m, 2), lambda m: resegment(m, 2)]
)
def test_what_cannot_be_made_anew_is_refused_by_name(what: str, change: Any) -> None:
    model = Model()
    model.norm.odd = REFUSED[what](model)
    expected = r"\Amodule \(='Model'\) can't be copied: through norm.odd, [^\n]* a[.a-z]* of the"
    with pytest.raises(ValueError, match=expected):
        change(model)


STALE: dict[str, Callable[[nn.Conv2d], Any]] = {
    "weight in a list": lambda conv: [conv.weight],
    "bias in a closure": lambda conv: in_closure(Held(conv.bias)),
    "optimizer": lambda conv: torch.optim.SGD(conv.parameters(), lr=0.1),
    "weight in a partial": lambda conv: functools.partial(operator.mul, conv.weight),
}


@pytest.mark.parametrize("what", STALE)
@pytest.mark.parametrize("change", [convert, resegment])
def test_weights_of_a_replaced_layer_that_are_held_elsewhere_are_refused(
    what: str, change: Any
) -> None:
    model = Model()
    model.odd = STALE[what](model.a)
    expected = r"\Amodule \(='Model'\) can't be copied: through odd, [^\n]* a\.(weight|bias) of the"
    with pytest.raises(ValueError, match=expected):
        change(model, 2)


def test_methods_of_a_replaced_layer_become_those_of_the_new_one() -> None:
    model = Model()
    model.forward = model.a.forward  # type: ignore[method-assign]
    torch.testing.assert_close(convert(model, 1)(IMAGES), model(IMAGES))
    model.odd = model.a._conv_forward
    with pytest.raises(ValueError, match="through odd, the copy would still use a of the original"):
        convert(model, 1)


@pytest.mark.parametrize(
    "make", [threading.Lock, lambda: (i for i in "ab"), lambda: weakref.WeakMethod(Held(1).again)]
)
def test_what_cannot_be_copied_at_all_is_one_line(make: Any) -> None:
    model = Model()
    model.odd = make()
    with pytest.raises(ValueError, match=r"\Amodule \(='Model'\) can't be copied: cannot pickle"):
        copy_module(model)


def test_a_part_that_shares_itself_on_purpose_stays_shared() -> None:
    class Shared(nn.Linear):
        def __deepcopy__(self, memo: Any) -> Shared:
            return self

    model = Model()
    model.teacher = Shared(2, 2)
    assert copy_module(model).teacher is model.teacher


@pytest.mark.parametrize("inside", [False, True])
def test_wrappers_for_several_devices_are_converted(inside: bool) -> None:
    model: nn.Module = Model().eval()
    if inside:
        model.a = nn.DataParallel(model.a)
    else:
        model = nn.DataParallel(model)
    for change in (convert, resegment):
        changed = change(model, 1, check=IMAGES)
        torch.testing.assert_close(changed(IMAGES), model(IMAGES))
