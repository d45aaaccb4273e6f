"""Tables of images: real Parquet files, and a hub that is a real server."""

from __future__ import annotations

import decimal
import errno
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from spectrum import DataConfig, load_data
from spectrum.data.images import MAX_FILE, open_image
from spectrum.data.records import read_parquet
from spectrum.data.scan import reason_text, scan
from spectrum.data.source import TEST, TRAIN, UNASSIGNED, VALIDATION, Source
from tests.data import pictures
from tests.data.hub_server import serving

pytest.importorskip("datasets")

CARD = b"""---
configs:
- config_name: small
  data_files:
  - {split: train, path: small/train-*.parquet}
  - {split: valid, path: small/valid-*.parquet}
  - {split: test, path: small/test-*.parquet}
  - {split: extra, path: small/train-*.parquet}
- config_name: large
  data_files: large/*.parquet
---
"""


def png(i: int) -> bytes:
    return pictures.encoded(np.full((4, 4, 3), i, np.uint8))


def structs(n: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"bytes": png(first + i), "path": f"{i}.png"} for i in range(n)]


def table(labels: Any, first: int = 0) -> pa.Table:
    return pa.table({"image": structs(len(labels), first), "label": labels})


def encoded(rows: pa.Table) -> bytes:
    file = pa.BufferOutputStream()
    pq.write_table(rows, file)
    return bytes(file.getvalue())


@pytest.fixture(autouse=True)
def _own_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hub_cache")


def write(path: Path, rows: pa.Table, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, **options)


def read(path: Path, **fields: Any) -> Source:
    return read_parquet(DataConfig(name=f"parquet:{path}", **fields))


def test_the_rows_of_a_file_are_read_from_anywhere(tmp_path: Path) -> None:
    labels = [i % 3 for i in range(50)]
    write(tmp_path / "a.parquet", table(labels), row_group_size=7)
    source = read(tmp_path / "a.parquet")
    assert (source.classes, source.targets.tolist()) == (("0", "1", "2"), labels)
    assert source.splits.tolist() == [UNASSIGNED] * 50
    stored = pickle.dumps(source.reader)
    assert len(stored) < 1000
    for reader in (source.reader, pickle.loads(stored)):
        assert [reader.read(i) for i in (0, 6, 7, 49)] == [png(i) for i in (0, 6, 7, 49)]
        assert (reader.name(17), reader.version(17)) == ("a.parquet row 17", "")


def test_files_are_assigned_to_splits_by_their_names_or_folders(tmp_path: Path) -> None:
    write(tmp_path / "Train-00001-of-2.parquet", table([1, 0], 2))
    write(tmp_path / "Train-00000-of-2.parquet", table([0, 1], 0))
    write(tmp_path / "data" / "validation" / "0.parquet", table([1, 1, 0], 10))
    write(tmp_path / "test_of_all.parquet", table([0], 20))
    write(tmp_path / "more" / "b.parquet", table([0, 1, 0, 1], 30))
    write(tmp_path / ".hidden" / "train.parquet", table([0, 1]))
    source = read(tmp_path)
    assert source.splits.tolist() == [TRAIN] * 4 + [VALIDATION] * 3 + [TEST]
    content = [source.reader.read(i) for i in range(8)]
    assert content == [png(i) for i in (0, 1, 2, 3, 10, 11, 12, 20)]
    assert source.targets.tolist() == [0, 1, 1, 0, 1, 1, 0, 0]
    names = [source.reader.name(i) for i in (1, 2, 6, 7)]
    assert names == [
        "Train-00000-of-2.parquet row 1",
        "Train-00001-of-2.parquet row 0",
        "0.parquet row 2",
        "test_of_all.parquet row 0",
    ]
    assert source.notes == (f"{Path('more', 'b.parquet')}: in no split, not used",)


@pytest.mark.parametrize("name", ["a [1]*", "{x}ä?~#%20", ".x", "train"])
def test_paths_may_hold_any_character(name: str, tmp_path: Path) -> None:
    write(tmp_path / name / "b [ab] 1.parquet", table([0, 1, 1]))
    assert read(tmp_path / name).targets.tolist() == [0, 1, 1]


@pytest.mark.parametrize("names", [("a", "b"), ("test-0", "test-1")])
def test_files_that_all_name_one_split_are_unassigned(
    names: tuple[str, str], tmp_path: Path
) -> None:
    for i, name in enumerate(names):
        write(tmp_path / f"{name}.parquet", table([0, 1], 2 * i))
    assert read(tmp_path).splits.tolist() == [UNASSIGNED] * 4


@pytest.mark.parametrize("names", [("learn", "test"), ("val", "test"), ("0", "1", "holdout")])
def test_a_split_for_testing_is_never_trained_on(names: tuple[str, ...], tmp_path: Path) -> None:
    for i, name in enumerate(names):
        write(tmp_path / f"{name}.parquet", table([0, 1], 2 * i))
    with pytest.raises(ValueError, match=r"\Amust have a file whose name says train beside "):
        read(tmp_path)


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path, content: path.write_bytes(content[: len(content) // 2]),
        lambda path, _: path.write_bytes(b""),
        lambda path, content: path.write_bytes(bytes(255 - byte for byte in content)),
        *(
            lambda path, content, i=i: path.write_bytes(
                content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :]
            )
            for i in range(200, 3000, 700)
        ),
        lambda path, _: path.unlink(),
        lambda path, _: replace_by_pipe(path),
    ],
)
def test_a_damaged_cache_of_datasets_is_made_anew(
    damage: Callable[[Path, bytes], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own_cache"))
    write(tmp_path / "table" / "a.parquet", table([0, 1, 1, 0] * 10))
    read(tmp_path / "table")
    [cached] = (tmp_path / "hub_cache").rglob("*.arrow")
    content = cached.read_bytes()
    damage(cached, content)
    source = read(tmp_path / "table")
    assert source.targets.tolist() == [0, 1, 1, 0] * 10
    assert [source.reader.read(i) for i in range(40)] == [png(i) for i in range(40)]
    assert cached.read_bytes() == content


def test_splits_whose_labels_are_withheld_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", table([0, 1, 2, 0]))
    write(tmp_path / "dev.parquet", table([2, 1]))
    write(tmp_path / "test.parquet", table([-1, -1, -1]))
    source = read(tmp_path)
    assert source.splits.tolist() == [TRAIN] * 4 + [VALIDATION] * 2
    assert source.notes == ("the labels of test aren't given, its images aren't used",)
    assert len(source.reader) == 6


def test_files_that_datasets_writes_keep_their_class_names(tmp_path: Path) -> None:
    import datasets

    images = [Image.fromarray(np.full((5, 6), i, np.uint8)) for i in range(6)]
    features = datasets.Features(
        {
            "img": datasets.Image(),
            "coarse_label": datasets.ClassLabel(names=["x", "y"]),
            "fine_label": datasets.ClassLabel(names=["ant", "bee", "cow"]),
            "tags": datasets.List(datasets.ClassLabel(names=["p", "q"])),
        }
    )
    labels = {
        "coarse_label": [0, 1] * 3,
        "fine_label": [2, 1, 0] * 2,
        "tags": [[0], [], [0, 1]] * 2,
    }
    made = datasets.Dataset.from_dict({"img": images, **labels}, features=features)
    made.to_parquet(str(tmp_path / "a.parquet"))
    columns = "coarse_label or fine_label or tags"
    with pytest.raises(ValueError, match=rf"\Alabel_column \(=None\) must be given: {columns}\Z"):
        read(tmp_path)
    fine = read(tmp_path, label_column="fine_label")
    assert (fine.classes, fine.targets.tolist()) == (("ant", "bee", "cow"), [2, 1, 0] * 2)
    assert open_image(fine.reader.read(3)).size == (6, 5)
    tags = read(tmp_path, label_column="tags")
    assert tags.classes == ("p", "q")
    assert tags.targets[:3].tolist() == [[True, False], [False, False], [True, True]]
    assert fine.key == tags.key  # the images are the same


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_a_column_of_bytes_is_one_of_images(kind: Any, tmp_path: Path) -> None:
    images = pa.array([png(i) for i in range(4)], kind)
    category = pd.Categorical(list("bbca"))  # which arrow stores as a dictionary
    write(tmp_path / "a.parquet", pa.table({"category": pa.array(category), "jpg": images}))
    source = read(tmp_path)
    assert (source.classes, source.targets.tolist()) == (("a", "b", "c"), [1, 1, 2, 0])
    assert [source.reader.read(i) for i in range(4)] == [png(i) for i in range(4)]


NUMBERS = [pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()]
NUMBERS += [pa.decimal128(5, 2), pa.decimal256(40, 0)]
TEXTS = [pa.string(), pa.large_string(), pa.string_view()]


@pytest.mark.parametrize("values", [*NUMBERS, *TEXTS], ids=str)
@pytest.mark.parametrize("form", ["plain", "dictionary", "list", "large list", "fixed list"])
def test_labels_of_any_type_that_holds_them(values: Any, form: str, tmp_path: Path) -> None:
    labels: list[Any] = ["a", "b", "b", "a"] if values in TEXTS else [3, 5, 5, 3]
    if pa.types.is_decimal(values):
        labels = list(map(decimal.Decimal, labels))
    if form == "dictionary" and (values not in TEXTS or values == pa.string_view()):
        pytest.skip("datasets reads dictionaries of text alone")
    column = pa.array(labels).cast(values)
    if form == "dictionary":
        column = column.dictionary_encode()
    elif form != "plain":
        kinds = {"list": pa.list_(values), "large list": pa.large_list(values)}
        offsets = pa.array(range(5), pa.int64() if form == "large list" else pa.int32())
        arrays = {"list": pa.ListArray, "large list": pa.LargeListArray}
        if form == "fixed list":
            column = pa.FixedSizeListArray.from_arrays(column, 1)
        else:
            column = arrays[form].from_arrays(offsets, column, type=kinds[form])
    write(tmp_path / "a.parquet", pa.table({"image": structs(4), "label": column}))
    source = read(tmp_path)
    assert source.classes == (("a", "b") if values in TEXTS else ("3", "5"))
    found = source.targets.argmax(1) if source.is_multi_label else source.targets
    assert found.tolist() == [0, 1, 1, 0]


def test_images_that_are_missing_or_elsewhere(tmp_path: Path) -> None:
    folder, outside = tmp_path / "table", tmp_path / "secret.png"
    outside.write_bytes(png(9))
    (folder / "more").mkdir(parents=True)
    (folder / "more" / "one.png").write_bytes(png(7))
    (folder / "link.png").symlink_to(outside)
    os.mkfifo(folder / "pipe.png")
    with (folder / "large.png").open("wb") as file:
        file.truncate(MAX_FILE + 1)
    paths = {
        str(folder / "more" / "one.png"): png(7),
        "more/one.png": png(7),
        "more/../more/one.png": png(7),
        "one.png": "not there",
        str(outside): "outside of the table's folder",
        "../secret.png": "outside of the table's folder",
        "more/../../secret.png": "outside of the table's folder",
        "link.png": "outside of the table's folder",
        "/dev/zero": "outside of the table's folder",
        f"/proc/self/cwd/{outside}": "outside of the table's folder",
        "pipe.png": "not readable",
        "more": "not readable",
        "large.png": "too large",
    }
    images: list[Any] = [{"bytes": None, "path": path} for path in paths]
    images += [{"bytes": png(1), "path": "/dev/zero"}, {"bytes": None, "path": None}, None]
    images += [{"bytes": b"", "path": None}]
    labels = [i % 2 for i in range(len(images))]
    write(folder / "a.parquet", pa.table({"image": images, "label": labels}))
    source = read(folder / "a.parquet")
    reader, entries = source.reader, scan(source, processes=1)
    expected = [*paths.values(), png(1), "not there", "not there", "empty"]
    for i, (entry, outcome) in enumerate(zip(entries, expected, strict=True)):
        if isinstance(outcome, bytes):
            assert reader.read(i) == outcome
        assert reason_text(entry) == ("" if isinstance(outcome, bytes) else outcome), images[i]
    before = reader.version(0)
    assert before.split()[0] == str(len(png(7)))
    os.utime(folder / "more" / "one.png", ns=(0, 1))
    assert reader.version(0) != before


def test_another_content_has_another_key(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write(path, table([0, 1]))
    first = read(path)
    assert read(path).key == first.key
    write(path, table([0, 1], 5))
    os.utime(path, ns=(0, 1))
    second = read(path)
    assert second.key != first.key
    assert second.reader.read(0) == png(5)


def test_a_table_becomes_a_dataset(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", table([i % 2 for i in range(40)]))
    data = load_data(f"parquet:{tmp_path}")
    assert (data.shape, data.classes) == ((3, 4, 4), ("0", "1"))
    numbers = data.test.images[:, 0, 0, 0]  # type: ignore[attr-defined]
    assert (numbers % 2).tolist() == data.test.labels.tolist()


@pytest.mark.parametrize(
    ("columns", "fields", "said"),
    [
        ({"label": [1, 2]}, {}, r"has no column of images, .*, but label \(int64\)"),
        ({"image": structs(2)}, {}, "has no column of labels beside image"),
        ({"a": structs(2), "b": structs(2), "label": [1, 2]}, {}, "image_column .*: a or b"),
        ({"image": structs(2), "x": [1, 2]}, {}, r"label_column \(=None\) .*: one of x"),
        ({"image": structs(2), "label": [1, 2], "labels": [1, 2]}, {}, ": label or labels"),
        (
            {"image": structs(2), "label": [1, 2]},
            {"label_column": "y"},
            r"label_column \(='y'\) must be one of the columns label",
        ),
        (
            {"image": structs(2), "label": [1, 2]},
            {"image_column": "label"},
            r"image_column \(='label'\) must hold images, bytes or .*, not int64",
        ),
        ({"image": structs(2), "label": [1, None]}, {}, "but a.parquet row 1 has none"),
        ({"image": structs(2), "label": [1.5, 2]}, {}, "but a.parquet row 0 has 1.5"),
        ({"image": structs(2), "label": [{"a": 1}, {"a": 2}]}, {}, "labels that are whole"),
        ({"image": structs(0), "label": pa.array([], pa.int64())}, {}, "has no rows"),
    ],
)  # fmt: skip
def test_columns_that_cannot_be_used_are_named(
    columns: Any, fields: dict[str, str], said: str, tmp_path: Path
) -> None:
    if "image" in columns:
        columns["image"] = pa.array(columns["image"], pa.struct([("bytes", pa.binary())]))
    write(tmp_path / "a.parquet", pa.table(columns))
    with pytest.raises(ValueError, match=rf"\A[^\n]*{said}[^\n]*\Z"):
        read(tmp_path, **fields)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ValueError, match=r"\Amust be a file \*.parquet or a folder of them"):
            read(path)
    content = encoded(table([0, 1] * 50))
    whole = tmp_path / "a.parquet"
    for damaged in (b"", b"nothing of the kind", content[:-1], content[: len(content) // 2]):
        whole.write_bytes(damaged)
        with pytest.raises(
            ValueError, match=r"\A[^\n]*a\.parquet, which can't be read as Parquet: [^\n]*"
        ):
            read(tmp_path)
    middle = bytes(255 - b for b in content[100:400])
    whole.write_bytes(content[:100] + middle + content[400:])
    with pytest.raises(ValueError, match=r"\Acan't be read: [^\n]+\Z"):
        read(tmp_path)
    whole.write_bytes(content)
    write(tmp_path / "empty.parquet", table([0])[:0])
    assert len(read(tmp_path).reader) == 100
    write(tmp_path / "b.parquet", pa.table({"image": structs(2), "kind": [0, 1]}))
    with pytest.raises(ValueError, match="must have the same columns, of the same types"):
        read(tmp_path)


def test_paths_that_datasets_takes_for_archives_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a::b.parquet", table([0, 1]))
    with pytest.raises(ValueError, match="must have no :: in a file's path"):
        read(tmp_path)


def test_the_extra_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    for name in (f"parquet:{tmp_path}", "hub:owner/name"):
        with pytest.raises(
            ValueError, match=r"needs datasets: pip install 'segment-spectrum\[data\]'\Z"
        ):
            load_data(name)


def test_a_full_disk_is_reported_if_another_error_wraps_it() -> None:
    import datasets

    from spectrum.data.hub import _explain

    error = datasets.exceptions.DatasetGenerationError("An error occurred")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert _explain(error, datasets).startswith("needs more space on the disk of ")


FETCH = """
import json, sys
import datasets, huggingface_hub
from spectrum import DataConfig
from spectrum.data.records import read_hub
for line in sys.stdin:
    for name in line.split():
        try:
            s = read_hub(DataConfig(name=f"hub:{name}"))
            found = {"classes": s.classes, "splits": s.splits.tolist(), "notes": s.notes,
                     "key": s.key, "targets": s.targets.tolist(),
                     "last": s.reader.name(len(s.reader) - 1),
                     "bytes": [s.reader.read(i).hex() for i in range(len(s.reader))]}
        except ValueError as error:
            found = {"error": str(error)}
        print(json.dumps(found), flush=True)
"""
NAMES = ["owner/name@small", "owner/plain", "owner/name", "owner/name@huge", "owner/gated"]
NAMES += ["owner/asked", "owner/script", "owner/empty", "owner/none", "owner/damaged"]
NAMES += ["parquet", "a/b/c"]


@contextmanager
def fetching(url: str, home: Path, **more: str) -> Iterator[Callable[[list[str]], list[Any]]]:
    """A process of its own that says what it finds at a hub. It says nothing else."""
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(home), **more}
    environment.pop("HF_TOKEN", None)
    process = subprocess.Popen(
        [sys.executable, "-c", FETCH],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def fetch(names: list[str]) -> list[Any]:
        print(*names, file=process.stdin, flush=True)
        return [json.loads(process.stdout.readline()) for _ in names]

    yield fetch
    assert process.communicate() == ("", "")
    assert process.returncode == 0


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What is found with the hub there, without it, and where it mustn't be asked."""
    home = tmp_path_factory.mktemp("home")
    ran = home / "ran"
    parts = {"train": [0, 1, 0, 1], "valid": [1, 0], "test": [-1, -1]}
    small = {f"small/{name}-0.parquet": encoded(table(rows)) for name, rows in parts.items()}
    two = encoded(table([0, 1]))
    repositories = {
        "owner/name": {"README.md": CARD, **small, "large/a.parquet": two},
        "owner/plain": {"all.parquet": encoded(table(["b", "a", "b"]))},
        "owner/gated": {"README.md": b"", "a.parquet": two},
        "owner/asked": {"README.md": b"", "a.parquet": two},
        "owner/script": {"script.py": f"open({str(ran)!r}, 'w')".encode()},
        "owner/empty": {"README.md": b"nothing"},
        "owner/damaged": {"data/train-0.parquet": two, "data/test.parquet": b"damaged"},
    }
    with ExitStack() as server, ExitStack() as client:
        url, asked = server.enter_context(
            serving(repositories, {"owner/gated": 401, "owner/asked": 403})
        )
        fetch = client.enter_context(fetching(url, home))
        online = dict(zip(NAMES, fetch(NAMES), strict=True))
        assert any("small/train-0.parquet" in line for line in asked)
        assert not any("large/a.parquet" in line and "GET" in line for line in asked)
        server.close()
        down = fetch(["owner/name@small", "owner/none"])
    with fetching(url, home, HF_HUB_OFFLINE="1") as fetch:
        offline = fetch(["owner/plain", "owner/none"])
    assert not ran.exists()
    return online, down, offline


def test_a_data_set_of_the_hub_is_fetched(hub: Any) -> None:
    found = hub[0]["owner/name@small"]
    assert found["classes"] == ["0", "1"]
    assert found["splits"] == [TRAIN] * 4 + [VALIDATION] * 2
    assert found["targets"] == [0, 1, 0, 1, 1, 0]
    assert found["bytes"] == [png(i).hex() for i in (0, 1, 2, 3, 0, 1)]
    assert found["last"] == "valid row 1"
    assert found["notes"] == [
        "extra: neither train, validation nor test, not used",
        "the labels of test aren't given, its images aren't used",
    ]
    plain = hub[0]["owner/plain"]
    assert (plain["classes"], plain["splits"]) == (["a", "b"], [UNASSIGNED] * 3)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "owner/name",
            "must be given .* as hub:NAME@CONFIG, one of small, large",
        ),
        ("owner/name@huge", ".* one of small, large"),
        ("owner/gated", "is gated: ask for access"),
        ("owner/asked", "is gated: ask for access"),
        ("owner/script", "is a script, and other people's code is never run"),
        ("owner/empty", "can't be read: .* doesn't contain any data files"),
        ("owner/none", "isn't on the hub, or it's private"),
        ("owner/damaged", "can't be read: .*Could not open Parquet input source"),
        ("parquet", r"must be hub:NAME\[@CONFIG\]"),
        ("a/b/c", r"must be hub:NAME\[@CONFIG\]"),
    ],
)
def test_what_the_hub_refuses_is_reported_in_one_line(name: str, said: str, hub: Any) -> None:
    message = hub[0][name]["error"]
    assert re.match(said, message)
    assert "\n" not in message
    assert len(message) < 300


def test_without_the_hub_downloaded_data_are_read_from_the_cache(hub: Any) -> None:
    online, down, offline = hub
    assert down[0] == online["owner/name@small"]
    assert offline[0] == online["owner/plain"]
    assert "can't be reached (ConnectError" in down[1]["error"]
    assert "HF_HUB_OFFLINE forbids" in offline[1]["error"]
