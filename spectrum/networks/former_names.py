"""Loads state dicts of earlier versions, in which some tensors have other names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from torch import nn

T = TypeVar("T")
_KINDS = ("conv", "bn", "relu")


class FormerNames(nn.Module):
    """Base class of a network whose state dict had other names in earlier versions.

    ``load_state_dict`` accepts former names, also if the network is part of a larger module such
    as ``torch.optim.swa_utils.AveragedModel``.

    Args:
        current_names: maps all names of a state dict, former ones or not, to the current names.
    """

    def __init__(self, current_names: Callable[[Iterable[str]], dict[str, str]]) -> None:
        super().__init__()
        self.current_names = current_names
        self.register_load_state_dict_pre_hook(_rename_before_loading)  # type: ignore[no-untyped-call]


def rename_former(network: nn.Module, state: Mapping[str, T]) -> dict[str, T]:
    """Copy a state dict with former names replaced by the current ones.

    Args:
        network: the network of the state dict, with any number of segments. Only the names of
            ``xception`` and ``vgg`` have changed.
        state: the state dict.
    """
    if not isinstance(network, FormerNames):
        return dict(state)
    names = network.current_names(state)
    return {names[name]: value for name, value in state.items()}


def _rename_before_loading(
    network: nn.Module, state: dict[str, object], prefix: str, *_: object
) -> None:
    names = [name for name in state if name.startswith(prefix)]
    own = {name.removeprefix(prefix): state.pop(name) for name in names}
    state.update({prefix + name: value for name, value in rename_former(network, own).items()})


def current_xception_names(names: Iterable[str]) -> dict[str, str]:
    """Map names of an ``xception``. Its layers were numbered, including the ReLUs."""
    return {name: _current_xception_name(name) for name in names}


def _current_xception_name(name: str) -> str:
    if match := re.fullmatch(r"stem\.(\d+)\.(\w+)", name):
        unit, kind = divmod(int(match[1]), 3)
        return f"stem.{unit}.{_KINDS[kind]}.{match[2]}"
    if match := re.fullmatch(r"exit\.([1-9])\.(.+)", name):
        unit, kind = divmod(int(match[1]) - 1, 3)
        return f"exit.{_KINDS[kind]}{unit + 3}.{match[2]}"
    if match := re.fullmatch(r"(\w+\.\d+)\.branch\.(\d+)\.(.+)", name):
        # The first entry module began with a convolution, the other modules with a ReLU.
        unit, kind = divmod(int(match[2]) - (match[1] != "entry.0"), 3)
        name = f"{match[1]}.{_KINDS[kind]}{unit + 1}.{match[3]}"
    return re.sub(r"^exit\.0\.", "exit.block.", name)


def current_vgg_names(names: Iterable[str]) -> dict[str, str]:
    """Map names of a ``vgg``. A ReLU after batch normalisation was a layer with a number."""
    names = list(names)
    # The second convolution of a stage had number 3, which is a batch normalisation's today.
    former = any(re.match(r"stage\d\.3\.(spatial|pointwise)\.", name) for name in names)
    if not former:
        return {name: name for name in names}
    return {name: re.sub(r"^(stage\d)\.(\d+)", _without_relus, name) for name in names}


def _without_relus(match: re.Match[str]) -> str:
    unit, kind = divmod(int(match[2]), 3)
    return f"{match[1]}.{2 * unit + kind}"
