"""A user's own network by name: imported and called with its arguments, or refused."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from spectrum.layers import SegmentedConv
from spectrum.networks import (
    NetworkConfig,
    build,
    call_user_code,
    code_fingerprint,
    is_user_code,
    takes_argument,
)
from spectrum.user_code import is_callable_name

HEAD = "import functools, sys, torch\nfrom torch import nn\n"
NET = """
class Net(nn.Sequential):
    def __init__(self, num_classes=1000, in_channels=3, width=1.0):
        c = int(8 * width)
        super().__init__(nn.Conv2d(in_channels, c, 3), nn.Conv2d(c, num_classes, 3))
    @classmethod
    def of_ten(cls, width=1.0):
        return cls(10, width=width)
def plain(): return Net(7)
def anything(**kwargs): return Net(**kwargs)
def positional(num_classes, /): return Net(num_classes)
def named(*, num_classes): return Net(num_classes)
half = functools.partial(Net, width=0.5)
class Maker:
    def __call__(self, num_classes): return Net(num_classes)
maker = Maker()
number = 3
def fails(): raise RuntimeError('no\\nway')
def silent(): raise RuntimeError
def leaves(): sys.exit('bye')
def text(): return 'net'
def cls(): return Net
"""
COUNT = itertools.count()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a user's module and returns its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def writing(text: str, name: str = "") -> str:
        name = name or f"users_{next(COUNT)}"
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEAD + text)
        importlib.invalidate_caches()
        sys.modules.pop(name, None)
        return name

    return writing


def call(name: str, num_classes: int = 5, in_channels: int = 3, width: float = 1.0) -> nn.Module:
    return call_user_code(name, num_classes=num_classes, in_channels=in_channels, width=width)


def test_a_callable_gets_the_arguments_that_it_has(write: Callable[..., str]) -> None:
    m = write(NET)
    sizes = {"Net": (5, 2, 16), "Net.of_ten": (10, 3, 16), "named": (5, 3, 8), "maker": (5, 3, 8)}
    sizes |= {"plain": (7, 3, 8), "anything": (5, 3, 8), "half": (5, 2, 16)}
    for path, expected in sizes.items():
        first, last = call(f"{m}:{path}", in_channels=2, width=expected[2] / 8)
        assert (last.out_channels, first.in_channels, first.out_channels) == expected, path


def test_takes_argument_knows_them_from_the_signature(write: Callable[..., str]) -> None:
    m = write(NET)
    expected = {"Net": "num_classes in_channels width", "plain": "", "anything": "num_classes"}
    expected |= {"positional": "", "named": "num_classes", "half": "num_classes in_channels width"}
    for path, names in expected.items():
        taken = {
            a for a in ("num_classes", "in_channels", "width") if takes_argument(f"{m}:{path}", a)
        }
        assert taken == set(names.split()), path
    assert not takes_argument("builtins:dict", "width")  # written in C, without a signature
    with pytest.raises(ValueError, match="can't be imported"):
        takes_argument(f"{m}:missing", "width")


def test_a_width_is_refused_for_a_callable_without_one(write: Callable[..., str]) -> None:
    m = write(NET)
    with pytest.raises(ValueError, match=rf"\Awidth \(=2\) must be 1, [^\n]*{m}:plain[^\n]*\Z"):
        call(f"{m}:plain", width=2)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing", r"can't be imported: AttributeError: [^\n]*missing[^\n]*"),
        ("Net.missing", r"can't be imported: AttributeError: [^\n]*"),
        ("number", "must be callable, not int"),
        ("fails", "failed: RuntimeError: no"),
        ("silent", "failed: RuntimeError"),
        ("leaves", "failed: SystemExit: bye"),
        ("positional", r"failed: TypeError: [^\n]*num_classes[^\n]*"),
        ("text", r"must return a torch.nn.Module, not str"),
        ("cls", r"must return a torch.nn.Module, not type"),
    ],
)
def test_what_is_no_callable_is_refused_in_one_line(
    path: str, reason: str, write: Callable[..., str]
) -> None:
    m = write(NET)
    with pytest.raises(ValueError, match=rf"\Anetwork \(='{m}:{path}'\) {reason}\Z"):
        call(f"{m}:{path}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("def broken(:", "SyntaxError: "),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("sys.exit(3)", "SystemExit: 3"),
        ("raise ValueError('x' * 5000)", "ValueError: xxx"),
    ],
)
def test_a_module_that_cannot_be_imported_is_refused_in_one_line(
    text: str, reason: str, write: Callable[..., str]
) -> None:
    m = write(text)
    with pytest.raises(
        ValueError, match=rf"\Anetwork \(='{m}:f'\) can't be imported: [^\n]*\Z"
    ) as e:
        call(f"{m}:f")
    assert reason in str(e.value)
    assert len(str(e.value)) < 300


def test_what_other_processes_cannot_import_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "made_here", nn.Identity, raising=False)
    for name in ("__main__:made_here", "not_there.at_all:f"):
        with pytest.raises(ValueError, match=rf"\Anetwork \(='{name}'\) can't be imported[^\n]*\Z"):
            call(name)


def test_names_of_user_code_contain_a_colon() -> None:
    good = ["a:b", "a.b:c", "a.b.c:D.e", "_a1:_b2", "größe:netz"]
    bad = [
        "",
        "a",
        ":b",
        "a:",
        "a:b:c",
        "a b:c",
        "1a:b",
        "a..b:c",
        ".a:b",
        "a:b.",
        "a/b:c",
        "a:b\n",
    ]
    assert [name for name in good + bad if is_callable_name(name)] == good
    assert is_user_code("a:b")
    assert not is_user_code("paper")


def test_the_fingerprint_is_of_the_files_that_define_and_name_it(
    write: Callable[..., str], tmp_path: Path
) -> None:
    m = write(NET)
    package = write(
        f"from {m} import Net, plain as build\nmine = functools.partial(Net)\n", "pkg.mod"
    )
    decorated = write(
        f"from {package} import Net\n"
        "def handed(f):\n    return lambda: f()\n"
        "def net(): return Net(3)\n"
    )
    user = write(f"from {decorated} import handed, net\nbuild = handed(net)\n")
    names = [f"{m}:Net", f"{m}:half", f"{m}:maker", f"{package}:build", f"{package}:mine"]
    names += [f"{user}:build"]

    def prints() -> list[str]:
        return [code_fingerprint(name, nn.ReLU()) for name in names]

    first = prints()
    assert first == prints()
    assert all(len(p) == 16 for p in first)
    for edited, affected in [(m, [0, 1, 2, 3]), (package, [3, 4]), (user, [5])]:
        path = tmp_path.joinpath(*edited.split(".")).with_suffix(".py")
        path.write_text(path.read_text() + "\n# edited\n")
        second = prints()
        assert [i for i in range(len(names)) if first[i] != second[i]] == affected
        first = second
    of_c = code_fingerprint("builtins:dict", nn.ReLU())
    assert of_c == code_fingerprint("builtins:list", nn.Conv2d(1, 1, 1))
    (tmp_path / f"{m}.py").unlink()
    assert code_fingerprint(f"{m}:Net", nn.ReLU()) == of_c  # the file no longer exists
    with pytest.raises(ValueError, match="can't be imported"):
        code_fingerprint(f"{m}:missing", nn.ReLU())


def test_the_fingerprint_is_of_the_files_of_the_models_classes_too(
    write: Callable[..., str], tmp_path: Path
) -> None:
    helper = write("class Own(nn.Sequential): pass")
    m = write(f"import {helper}\ndef net(): return {helper}.Own(nn.Conv2d(1, 1, 1))")

    network = call(f"{m}:net")
    first = code_fingerprint(f"{m}:net", network)
    assert first == code_fingerprint(f"{m}:net", network)
    path = tmp_path / f"{helper}.py"
    path.write_text(path.read_text() + "# edited\n")
    assert first != code_fingerprint(f"{m}:net", network)


def test_a_compiled_model_is_unwrapped(write: Callable[..., str]) -> None:
    m = write("def net(): return torch.compile(nn.Conv2d(1, 2, 3))")
    assert type(call(f"{m}:net")) is nn.Conv2d


@pytest.mark.filterwarnings("ignore:.*torch.jit")  # TorchScript is deprecated
def test_a_scripted_model_and_an_instance_are_refused(
    write: Callable[..., str],
) -> None:
    m = write("net = nn.Conv2d(1, 2, 3)\ndef scripted(): return torch.jit.script(net)")
    for name, said in (("net", "is a module, must be a callable"), ("scripted", "not Recursive")):
        with pytest.raises(ValueError, match=said):
            call(f"{m}:{name}")


def test_build_converts_a_users_network(write: Callable[..., str]) -> None:
    m = write(NET)
    config = NetworkConfig(name=f"{m}:Net", segments="C/2", num_classes=4, in_channels=2, width=2)
    network = build(config)
    assert [type(layer) for layer in network] == [SegmentedConv] * 2
    assert [layer.segment_count for layer in network] == [1, 8]
    assert [layer.order for layer in network] == ["spatial_only", "spatial_first"]
    assert network(torch.randn(1, 2, 8, 8)).shape == (1, 4, 4, 4)
    forced = build(config.model_copy(update={"order": "pointwise_first"}))
    assert [layer.order for layer in forced] == ["pointwise_first"] * 2
    with pytest.raises(ValueError, match=r"must return a torch\.nn\.Module"):
        build(NetworkConfig(name=f"{m}:text"))
