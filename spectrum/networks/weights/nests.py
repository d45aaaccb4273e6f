"""Finds a network's state dict in a nest of mappings, and the prefix of its names.

Training frameworks save a state dict together with other things, under a key of their own, and
wrappers such as ``DataParallel`` put a prefix before its names. Both are found by structure: what
is looked for are tensors that have the network's names, once a prefix is removed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from spectrum.errors import FieldError
from spectrum.networks.former_names import rename_former
from spectrum.networks.weights.layouts import LAYOUTS, recognise
from spectrum.networks.weights.translate import BATCH_COUNT

log = logging.getLogger(__name__)

PREFERRED_KEYS = (
    "state_dict",
    "model",
    "model_state_dict",
    "model_state",
    "network",
    "net",
    "module",
    "weights",
    "params",
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
)
"""Keys of nests. Of several state dicts that fit, the one with the earliest key is taken."""

# What wrappers put before the names of a network, or of a part of it.
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
_PREFIXES = ("module", "model", "net", "network", *_WRAPPERS)
_COUNT_OF_AVERAGED = "n_averaged"  # AveragedModel has it beside the module that it averages
_MAX_DEPTH = 16
_MAX_MAPPINGS = 10_000
_MAX_PREFIXES = 64


@dataclass(frozen=True)
class _Candidate:
    """A state dict in a nest, a prefix of its names, and how well the rest of the names fits.

    Attributes:
        path: the keys that lead to it.
        prefix: the prefix to remove; names without it are left out.
        tensors: the tensors by the rest of their names.
        fit: whether all names of the network are among them, and how many are.
        rank: the lowest is taken of those that fit equally well.
    """

    path: tuple[str, ...]
    prefix: str
    tensors: Mapping[str, Tensor]
    fit: tuple[bool, int]
    rank: tuple[tuple[int, ...], int, int]

    def __str__(self) -> str:
        return ".".join((*self.path, self.prefix)).removesuffix(".")[:80] or "all of it"


def find_state(content: Any, label: str | Path, network: nn.Module | None) -> dict[str, Tensor]:
    """The state dict in a nest, without the prefix of its names.

    Args:
        content: a state dict, or mappings that hold some.
        label: the name of the source in messages.
        network: the network whose names are looked for. None looks for those of known layouts.

    Raises:
        FieldError: there is no state dict, or several fit equally well and have none of
            ``PREFERRED_KEYS``.
    """
    candidates = [c for path, state in _states(content) for c in _candidates(path, state, network)]
    if not candidates:
        raise FieldError("source", label, _fault(content))
    best = max(candidate.fit for candidate in candidates)
    fitting = [candidate for candidate in candidates if candidate.fit == best]
    rank = min(candidate.rank for candidate in fitting)
    first = [candidate for candidate in fitting if candidate.rank == rank]
    if len(first) > 1:
        names = ", ".join(map(str, first[:5]))
        raise FieldError("source", label, f"must hold one state dict that fits, not {names}")
    if first[0].path or first[0].prefix:
        log.info("%s: the weights are those of %s", label, first[0])
    return dict(first[0].tensors)


def _states(content: Any) -> Iterator[tuple[tuple[str, ...], Mapping[str, Tensor]]]:
    """The mappings of names to tensors in a nest, outermost first, with the keys to them."""
    queue: list[tuple[tuple[str, ...], Any]] = [((), content)]
    seen: set[int] = set()
    for path, value in queue:
        if not isinstance(value, Mapping) or not value or id(value) in seen:
            continue
        seen.add(id(value))
        if not all(isinstance(name, str) for name in value):
            continue  # such as the state of an optimiser, which numbers the parameters
        if all(isinstance(item, Tensor) for item in value.values()):
            yield path, value
        elif len(path) < _MAX_DEPTH and len(queue) < _MAX_MAPPINGS:
            queue += [((*path, key), item) for key, item in value.items()]


def _fault(content: Any) -> str:
    """Why a nest holds no state dict, told of the innermost mapping with a preferred key."""
    for _ in range(_MAX_DEPTH):
        inner = content if isinstance(content, Mapping) else {}
        content = next(
            (inner[k] for k in PREFERRED_KEYS if isinstance(inner.get(k), Mapping)), content
        )
    if not isinstance(content, Mapping) or not content:
        return "must hold a state dict, which has names and tensors, or be a Keras model"
    odd = [k for k, v in content.items() if not isinstance(k, str) or not isinstance(v, Tensor)]
    found = f"; {str(odd[0])[:100]} is of type {type(content[odd[0]]).__name__}" if odd else ""
    return f"must hold only names and tensors{found}"


def _candidates(
    path: tuple[str, ...], state: Mapping[str, Tensor], network: nn.Module | None
) -> Iterator[_Candidate]:
    own = _own_names(network)
    forms = [
        {".".join(p for p in name.split(".") if p not in wrappers): name for name in state}
        for wrappers in ((), _WRAPPERS, (*_WRAPPERS, "module"))
    ]
    keys = tuple(PREFERRED_KEYS.index(k) if k in PREFERRED_KEYS else 99 for k in path)
    for form, sources in enumerate(forms):
        if len(sources) < len(state) or sources in forms[:form]:
            continue
        usual = _usual_prefixes(sources)
        for prefix in dict.fromkeys((*usual, *_prefixes_of_one(sources, own))):
            names = [name for name in sources if name.startswith(prefix)]
            tensors = {name[len(prefix) :]: state[sources[name]] for name in names}
            order = usual.index(prefix) if prefix in usual else _MAX_PREFIXES
            fit = _fit(tensors, own, network)
            yield _Candidate(path, prefix, tensors, fit, (keys, form, order))


def _own_names(network: nn.Module | None) -> Set[str]:
    names = network.state_dict() if network is not None else ()
    return {name for name in names if name.rpartition(".")[2] != BATCH_COUNT}


def _fit(names: Mapping[str, Tensor], own: Set[str], network: nn.Module | None) -> tuple[bool, int]:
    """Whether all names of the network are among the names, and how many are."""
    layout = LAYOUTS.get(recognise(names))
    if network is None:
        return layout is not None, 0
    if layout is not None and isinstance(network, layout.network):
        return True, len(own)
    found = own & rename_former(network, names).keys()
    return found == own, len(found)


def _usual_prefixes(names: Iterable[str]) -> list[str]:
    """The prefixes of usual wrappers and those that all names have, beginning with none."""
    prefixes = [""]
    names = [name for name in names if name != _COUNT_OF_AVERAGED]
    for prefix in prefixes:
        inner = [name[len(prefix) :] for name in names if name.startswith(prefix)]
        firsts = {name.partition(".")[0] for name in inner if "." in name}
        is_common = len(firsts) == 1 and len(inner) == len(names) and all("." in n for n in inner)
        chosen = [first for first in _PREFIXES if first in firsts]
        chosen += [first for first in firsts if is_common and first not in chosen]
        if len(prefixes) < _MAX_PREFIXES:
            prefixes += [f"{prefix}{first}." for first in chosen]
    return prefixes


def _prefixes_of_one(names: Iterable[str], own: Set[str]) -> list[str]:
    """What stands before one of the network's names, wherever it ends a name."""
    last = max(own, key=len, default="")
    ends = [name for name in names if last and name.endswith(f".{last}")]
    return [name.removesuffix(last) for name in ends[:_MAX_PREFIXES]]
