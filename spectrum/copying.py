"""Copies of modules that use nothing of the original, also where functions hold parts of it."""

from __future__ import annotations

import copy
import dis
import gc
import sys
import sysconfig
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from functools import cache
from pathlib import Path
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FrameType,
    FunctionType,
    MethodType,
    ModuleType,
    TracebackType,
)
from typing import Any

from torch import Tensor, nn

from spectrum.errors import FieldError

# The files of this package and of installed ones, whose functions don't name a user's modules.
_PATHS = sysconfig.get_paths()
_INSTALLED = (
    *(_PATHS[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib")),
    str(Path(__file__).parent),
)
# What copy.deepcopy takes over as it is.
_ATOMIC = (FunctionType, BuiltinFunctionType, type, weakref.ref, type(cache(int)))
_OPAQUE = (ModuleType, FrameType, TracebackType, CodeType)


def copy_module(
    module: nn.Module, replaced: Mapping[nn.Module, nn.Module] | None = None
) -> nn.Module:
    """A deep copy of a module, which uses none of the original's modules and tensors.

    ``copy.deepcopy`` shares functions with the original. So a forward, a hook or any other function
    that holds a layer, in its closure or defaults, would go on computing with the original's
    weights. Such functions are made anew here, over the layers of the copy. Hooks of tensors, which
    ``copy.deepcopy`` leaves out, are copied too.

    Args:
        module: the module; it isn't changed.
        replaced: modules that the copy doesn't contain, each with the one that stands for it,
            wherever the copy holds it.

    Raises:
        FieldError: a part of the module can't be copied, or the copy would still use a part of the
            original: a function reaches it by the name of a global variable, by a class or by a
            weak reference, or something else than a replaced module holds one of its parts.
    """
    replaced = replaced or {}
    copied = [value for value in _reachable(module, _ATOMIC)[0].values() if _is_part(value)]
    reached, holders = _reachable(module)
    value: Any
    memo: dict[int, object] = {id(old): new for old, new in replaced.items()}
    for value in reached.values():
        # Torch can't copy tensors with a gradient history, which old-style weight_norm and pruning
        # leave behind.
        if _is(value, Tensor) and not value.is_leaf:
            memo[id(value)] = value.detach().clone()
        elif _is(value, MethodType) and id(value.__self__) in memo and _is_own_method(value):
            memo[id(value)] = getattr(memo[id(value.__self__)], value.__name__, value)
    fill = _renew_functions(reached, _all_holders(map(id, copied), holders), memo)
    try:
        result: nn.Module = copy.deepcopy(module, memo)
        fill()
        for value in copied:
            if _is(value, Tensor) and id(value) in memo:
                _copy_hooks(value, memo)
    except Exception as error:  # objects that hold a lock or a file raise anything
        reason = f"can't be copied: {str(error)[:200]}"
        raise FieldError("module", type(module).__name__, reason) from error
    parts = {id(part) for old in replaced for part in (*old.modules(), *old.parameters())}
    stale = {id(memo[i]): i for i in parts - {id(old) for old in replaced} if i in memo}
    shared = {id(value) for value in copied if memo.get(id(value), value) is value} - parts
    foreign = {id(value): id(value) for value in copied if id(value) not in shared}
    _check(module, result, foreign | stale)
    return result


def _is_part(value: object) -> bool:
    return _is(value, nn.Module, Tensor)


def _is(value: object, *types: type) -> bool:
    """Whether a value has one of the types; unlike ``isinstance``, doesn't ask the value itself."""
    return issubclass(type(value), types)


def _is_own_method(method: MethodType) -> bool:
    """Whether a bound method is one of its object's class, and not a function bound to it."""
    return getattr(type(method.__self__), method.__name__, None) is method.__func__


def _reachable(
    root: object, closed: tuple[type, ...] = ()
) -> tuple[dict[int, object], dict[int, list[int]]]:
    """All objects that can be reached from another, nearest first, by their ids.

    Args:
        root: where to start.
        closed: types of objects that aren't looked into.

    Returns:
        The objects, and the ids of those that hold each.
    """
    found = {id(root): root}
    holders: dict[int, list[int]] = defaultdict(list)
    queue = [root]
    for value in queue:
        if _is(value, *closed):
            continue
        for held in _referents(value):
            if not gc.is_tracked(held) or _is(held, *_OPAQUE):
                continue  # it holds nothing
            holders[id(held)].append(id(value))
            if id(held) not in found:
                found[id(held)] = held
                queue.append(held)
    return found, holders


def _referents(value: Any) -> Iterable[object]:
    if _is(value, nn.Module):
        return (*vars(value).values(), type(value))
    if _is(value, weakref.ref):
        return (value(),)
    if _is(value, type):
        file = getattr(sys.modules.get(value.__module__), "__file__", None)
        names = () if _is_installed(file) else vars(value).keys() - {"__init__", "__new__"}
        return (*value.__mro__, *(vars(value)[name] for name in sorted(names)))
    if _is(value, FunctionType):
        parts = (value.__defaults__, value.__kwdefaults__, vars(value), *_globals(value))
        return (*(value.__closure__ or ()), *parts)
    return gc.get_referents(value)


def _is_installed(file: str | None) -> bool:
    return file is not None and file.startswith(_INSTALLED)


def _globals(function: FunctionType) -> Iterator[object]:
    """The values of the global names that a user's function reads."""
    if not _is_installed(function.__code__.co_filename):
        for name in _global_names(function.__code__):
            yield function.__globals__.get(name)


@cache
def _global_names(code: CodeType) -> frozenset[str]:
    inner = [_global_names(part) for part in code.co_consts if isinstance(part, CodeType)]
    own = (i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    return frozenset(own).union(*inner)


def _all_holders(ids: Iterable[int], holders: Mapping[int, list[int]]) -> Set[int]:
    """The ids of all objects that hold one of the given ones, directly or not."""
    found = set(ids)
    queue = list(found)
    for held in queue:
        new = set(holders.get(held, ())) - found
        found |= new
        queue += new
    return found


def _renew_functions(
    reached: Mapping[int, object], holding: Set[int], memo: dict[int, object]
) -> Callable[[], None]:
    """Put a new function into ``memo`` for each that holds parts of the original.

    Returns:
        What copies the contents of their closures and their defaults, after the module is copied.
    """
    functions = [
        (value, i) for i, value in reached.items() if i in holding and type(value) is FunctionType
    ]
    cells: dict[int, CellType] = {}
    for old, i in functions:
        closure = tuple(
            cells.setdefault(id(cell), CellType()) if id(cell) in holding else cell
            for cell in old.__closure__ or ()
        )
        memo[i] = FunctionType(old.__code__, old.__globals__, old.__name__, None, closure)

    def fill() -> None:
        def copied(value: object) -> object:
            return copy.deepcopy(value, memo) if id(value) in holding else value

        for i, cell in cells.items():
            cell.cell_contents = copied(reached[i].cell_contents)  # type: ignore[attr-defined]
        for old, i in functions:
            new = memo[i]
            for name in ("defaults", "kwdefaults", "qualname", "module", "doc", "annotations"):
                setattr(new, f"__{name}__", copied(getattr(old, f"__{name}__")))
            vars(new).update(copied(vars(old)))  # type: ignore[call-overload]

    return fill


def _copy_hooks(old: Tensor, memo: dict[int, object]) -> None:
    new = memo[id(old)]
    if isinstance(new, Tensor) and new.requires_grad and new is not old:
        for hook in (old._backward_hooks or {}).values():
            new.register_hook(copy.deepcopy(hook, memo))
        for hook in (getattr(old, "_post_accumulate_grad_hooks", None) or {}).values():
            new.register_post_accumulate_grad_hook(copy.deepcopy(hook, memo))


def _check(module: nn.Module, result: nn.Module, foreign: Mapping[int, int]) -> None:
    """Raise a FieldError if the copy reaches one of the foreign objects.

    Args:
        module: the original.
        result: the copy.
        foreign: the id of the original's part that each of them is, or is a copy of.
    """
    found, holders = _reachable(result)
    reached = next((i for i in found if i in foreign), None)
    if reached is None:
        return
    named = (*module.named_modules(), *module.named_parameters(), *module.named_buffers())
    names = {
        id(part): f"{name} of the original" if name else "the original" for name, part in named
    }
    inside = {id(part): name for name, part in result.named_modules()}
    part = names.get(foreign[reached], f"a {type(found[reached]).__name__} of the original")
    step = reached
    while (holder := holders[step][0]) not in inside:  # the nearest holder comes first
        step = holder
    names_of_held = [key for key, held in vars(found[holder]).items() if id(held) == step]
    where = ".".join((inside[holder], *names_of_held)).removeprefix(".")
    if not names_of_held:
        where = f"the class of {where or 'the module'}"
    reason = f"can't be copied: through {where}, the copy would still use {part}"
    raise FieldError("module", type(module).__name__, reason)
