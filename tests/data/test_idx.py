"""IDX files are read exactly or refused in one line, and Fashion-MNIST is what it is elsewhere."""

from __future__ import annotations

import gzip
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from spectrum import DataConfig, Split, load_data
from spectrum.data import idx
from spectrum.data.idx import read_fashion_mnist, read_idx
from spectrum.data.source import TEST, TRAIN, UNASSIGNED, VALIDATION, Source
from tests.data.pictures import encoded

Array = npt.NDArray[Any]
CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (40, 5, 5), dtype=np.uint8)
LABELS = (np.arange(40) % 4).astype(np.uint8)


def content(array: Array, shape: tuple[int, ...] | None = None) -> bytes:
    """An array as an IDX file, whose header may declare another shape."""
    shape = array.shape if shape is None else shape
    head = struct.pack(f">2x2B{len(shape)}I", CODES[array.dtype.str[1:]], len(shape), *shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write(folder: Path, files: Mapping[str, Array | bytes]) -> Path:
    """A folder of files, compressed if their name ends with gz."""
    folder.mkdir(exist_ok=True, parents=True)
    for name, file in files.items():
        plain = file if isinstance(file, bytes) else content(file)
        (folder / name).write_bytes(gzip.compress(plain) if name.endswith(".gz") else plain)
    return folder


def read(folder: Path, **fields: Any) -> Source:
    return read_idx(DataConfig(name=f"idx:{folder}", **fields))


def usual(images: Array = PIXELS, labels: Array = LABELS, cut: int = 30) -> dict[str, Array]:
    """The files of 30 images for training and 10 for testing."""
    return {
        "train-images-idx3-ubyte": images[:cut],
        "train-labels-idx1-ubyte": labels[:cut],
        "t10k-images-idx3-ubyte": images[cut:],
        "t10k-labels-idx1-ubyte": labels[cut:],
    }


NAMES = [
    ("{split}-{kind}s-idx{d}-ubyte", "train", "t10k"),
    ("{split}-{kind}s-idx{d}-ubyte.gz", "train", "test"),
    ("{split}-{kind}s.idx{d}-ubyte", "train", "t10k"),
    ("emnist-letters-{split}-{kind}s-idx{d}-ubyte.gz", "train", "test"),
    ("qmnist-{split}-{kind}s-idx{d}-ubyte", "train", "test"),
    ("{kind}s_{split}.idx", "Training", "Val"),
    ("My{split}_{kind}", "Train", "Holdout"),
    ("{split}_of_images.{kind}", "train", "dev"),
]
SHAPES = [(5, 5), (3, 8), (6, 4, 1), (5, 5, 3)]


@given(
    names=st.sampled_from(NAMES),
    shape=st.sampled_from(SHAPES),
    counts=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kind=st.sampled_from(["u1", "i1", "i2", "i4"]),
    seed=st.integers(0, 99),
)
def test_what_was_written_is_read(
    names: tuple[str, str, str],
    shape: tuple[int, ...],
    counts: tuple[int, int],
    kind: str,
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rng = np.random.default_rng(seed)
    form, *splits = names
    images = rng.integers(0, 256, (sum(counts), *shape), dtype=np.uint8)
    bounds = np.iinfo(kind)
    labels = rng.integers(bounds.min, bounds.max, sum(counts), dtype=kind, endpoint=True)
    labels[::2] = labels[0]
    files: dict[str, Array] = {}
    for split, part in zip(splits, (slice(counts[0]), slice(counts[0], None)), strict=True):
        files[form.format(split=split, kind="image", d=3)] = images[part]
        files[form.format(split=split, kind="label", d=1)] = labels[part]
    folder = write(tmp_path_factory.mktemp("idx"), files)
    write(folder, {"README.md": b"about images", ".DS_Store": b"", "._train-images": b"x"})
    if form.startswith("qmnist"):  # as torchvision leaves both in its folder
        write(folder, {f"{name}.gz": b"compressed" for name in files})
        (folder / "images").mkdir()
    source = read(folder)
    expected = images.reshape(*images.shape[:3], -1).transpose(0, 3, 1, 2)
    assert source.pixels.dtype == np.uint8
    assert np.array_equal(source.pixels, expected)
    assert [int(source.classes[i]) for i in source.targets] == labels.tolist()
    second = VALIDATION if splits[1] in ("Val", "dev") else TEST
    assert source.splits.tolist() == [TRAIN] * counts[0] + [second] * counts[1]


@pytest.mark.parametrize("name", ["train-{}", "{}-idx-ubyte.gz"])
def test_the_splits_of_a_single_part_are_drawn(name: str, tmp_path: Path) -> None:
    folder = write(tmp_path, {name.format("images"): PIXELS, name.format("labels"): LABELS})
    assert set(read(folder).splits) == {UNASSIGNED}
    data = load_data(f"idx:{folder}")
    sizes = [len(part) for part in (data.train, data.validation, data.test)]
    assert (sizes, data.classes, data.shape) == ([24, 8, 8], ("0", "1", "2", "3"), (1, 5, 5))


def test_a_moved_folder_holds_the_same_data(tmp_path: Path) -> None:
    plain = load_data(f"idx:{write(tmp_path / 'plain', usual())}")
    packed = write(tmp_path / "packed", {f"{name}.gz": file for name, file in usual().items()})
    assert load_data(f"idx:{packed}").fingerprint == plain.fingerprint
    other = write(tmp_path / "other", usual(PIXELS[::-1]))
    assert load_data(f"idx:{other}").fingerprint != plain.fingerprint
    divided = write(tmp_path / "divided", usual(cut=20))
    assert load_data(f"idx:{divided}").fingerprint != plain.fingerprint


@pytest.mark.parametrize("shape", [(9, 12), (9, 12, 1), (9, 12, 3), (6, 6)])
def test_images_are_resized_as_image_files_are(shape: tuple[int, ...], tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (40, *shape), dtype=np.uint8)
    folder = write(tmp_path / "idx", usual(images))
    for i, image in enumerate(images):
        place = tmp_path / "png" / str(LABELS[i])
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i}.png").write_bytes(encoded(image[..., 0] if shape[2:] == (1,) else image))
    for size in (6, 14):
        found = {}
        for kind in ("idx", "png"):
            name = f"idx:{folder}" if kind == "idx" else f"folder:{tmp_path / kind}"
            data = load_data(DataConfig(name=name, image_size=size))
            assert data.shape == (3 if shape[2:] == (3,) else 1, size, size)
            parts = [data.train, data.validation, data.test]
            assert all(isinstance(part, Split) for part in parts)
            found[kind] = {
                (image.numpy().tobytes(), int(label))
                for part in parts
                for image, label in zip(part.images, part.labels, strict=True)  # type: ignore[attr-defined]
            }
        assert found["idx"] == found["png"]
        assert len(found["idx"]) == 40


FILES = [f"{name}{end}" for name in usual() for end in ("", ".gz")]


@given(name=st.sampled_from(FILES), data=st.data())
def test_a_damaged_file_is_never_believed(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    end = ".gz" if name.endswith(".gz") else ""
    folder = tmp_path_factory.mktemp("idx")
    write(folder, {f"{key}{end}": file for key, file in usual().items()})
    path = folder / name
    damaged = bytearray(path.read_bytes())
    start = data.draw(st.integers(0, min(len(damaged) - 1, 40)) | st.integers(0, len(damaged) - 1))
    how = data.draw(st.sampled_from(["cut", "insert", "flip", "append"]))
    if how == "cut":
        del damaged[start:]
    elif how == "insert":
        damaged[start:start] = data.draw(st.binary(min_size=1, max_size=9))
    elif how == "append":
        damaged += data.draw(st.binary(min_size=1, max_size=9))
    else:
        damaged[start] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(damaged)
    try:
        source = read(folder)
    except ValueError as error:
        assert re.fullmatch(rf".*{path}.*", str(error))  # noqa: PT017
        return
    # Without compression a file has no checksum, so another value is one that it may hold.
    labels = np.array([int(source.classes[i]) for i in source.targets])
    changed = np.count_nonzero(source.pixels[:, 0] != PIXELS) + np.count_nonzero(labels != LABELS)
    assert changed <= (not end and how == "flip")


IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
ONE_SPLIT = {IMAGES: PIXELS, TRAIN_LABELS: LABELS}
NO_IDX = "is damaged: it begins with"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({IMAGES: b""}, f"{IMAGES} {NO_IDX} nothing, not with the magic number of an IDX file"),
        ({IMAGES: b"\x89PNG..."}, f"{IMAGES} {NO_IDX} 89 50 4e 47, not with the magic number"),
        ({IMAGES: b"\0\0\x0a\x03" + bytes(99)}, f"{IMAGES} {NO_IDX} 00 00 0a 03"),
        ({IMAGES: b"\x1f\x8b" + bytes(20)}, f"{IMAGES} is damaged: it can't be read (Unknown"),
        ({IMAGES: content(PIXELS, (2,) * 5)}, "is damaged: it declares 5 dimensions, must have 1"),
        ({IMAGES: content(PIXELS, ())}, "is damaged: it declares 0 dimensions, must have 1 to 4"),
        ({IMAGES: content(PIXELS)[:11]}, "it is cut short, within its header of 3 sizes"),
        ({IMAGES: content(PIXELS)[:-1]}, "it is cut short, it declares 1,000 bytes of values, 40"),
        ({IMAGES: content(PIXELS) + b"\0"}, "it goes on, it declares 1,000 bytes of values, 40x5x"),
        (
            {IMAGES: content(PIXELS, (2**32 - 1, 2**20, 1))},
            "it declares 4,503,599,626,321,920 bytes of values, 4294967295x1048576x1, must be 1 to",
        ),
        ({IMAGES: PIXELS[:0]}, "it declares 0 bytes of values, 0x5x5, must be 1 to"),
        ({IMAGES: PIXELS[:, 0]}, f"{IMAGES}, not uint8 (40, 5)"),
        ({IMAGES: PIXELS[:, None]}, f"{IMAGES}, not uint8 (40, 1, 5, 5)"),
        ({IMAGES: np.zeros((40, 5, 5, 2), np.uint8)}, f"{IMAGES}, not uint8 (40, 5, 5, 2)"),
        ({IMAGES: PIXELS.astype("f4")}, "or (N, H, W, C) of 1 or 3 channels, in "),
        ({IMAGES: PIXELS.astype("i1")}, f"{IMAGES}, not int8 (40, 5, 5)"),
        ({TRAIN_LABELS: LABELS.astype("f8")}, f"{TRAIN_LABELS}, not >f8 (40,)"),
        ({TRAIN_LABELS: np.zeros((40, 8), "i4")}, f"{TRAIN_LABELS}, not >i4 (40, 8)"),
        ({TRAIN_LABELS: LABELS[1:]}, "must have as many labels as images, but there are 39 in "),
        ({f"{IMAGES}.gz": b"", IMAGES: b""}, f"{IMAGES} {NO_IDX} nothing"),
        ({"train.image": PIXELS}, "must have one file of images for each split, not "),
        ({"qmnist-train-labels.tsv": b""}, "must have one file of labels for each split, not "),
        ({"test-images": PIXELS}, "must have a file of labels beside "),
        ({"t10k-labels-idx1-ubyte": LABELS}, "must have a file of images beside "),
        ({"images": PIXELS, "labels": LABELS}, "images, {}/labels, whose names must say their spl"),
        (
            {"test-images": PIXELS[:, 1:], "test-labels": LABELS},
            "must have images of one type and shape in all splits, not (40, 1, 5, 5) of uint8 and",
        ),
    ],
)
def test_what_is_no_data_set_is_refused_in_one_line(
    files: dict[str, Array | bytes], said: str, tmp_path: Path
) -> None:
    folder = write(tmp_path, {**ONE_SPLIT, **files})
    with pytest.raises(ValueError, match=re.escape(said.format(folder))) as caught:
        load_data(f"idx:{folder}")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    bomb = content(PIXELS) + bytes(50_000_000)
    folder = write(tmp_path, {**ONE_SPLIT, f"{IMAGES}.gz": bomb})
    (folder / IMAGES).unlink()
    unpacked = gzip.GzipFile.read
    with pytest.MonkeyPatch.context() as patch:

        def read_little(file: gzip.GzipFile, size: int = -1) -> bytes:
            assert 0 <= size <= 1001
            return unpacked(file, size)

        patch.setattr(gzip.GzipFile, "read", read_little)
        with pytest.raises(ValueError, match=r"it goes on, it declares 1,000 bytes of values"):
            read(folder)


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    path = write(tmp_path / "it", ONE_SPLIT) / IMAGES
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=rf"{path} is damaged: it can't be read \(it is no regul"):
        read(path.parent)
    path.unlink()
    path.symlink_to("nowhere")
    with pytest.raises(ValueError, match=rf"{path} is damaged: it can't be read \(No such file"):
        read(path.parent)
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match=r"must have a file of images beside .*train-labels"):
        read(path.parent)
    (path.parent / TRAIN_LABELS).rename(path.parent / "t10k-labels")
    write(path.parent, {"t10k-images": PIXELS})
    with pytest.raises(
        ValueError, match=rf"must have files for training, such .* in {tmp_path}/it"
    ):
        read(path.parent)


@pytest.mark.parametrize("name", ["none", "file", "empty", "n" * 300, "\x1b[2J\n"])
def test_a_folder_without_data_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty" / "train-images").mkdir(parents=True)
    allowed = "must be a folder of files such as train-images-idx3-ubyte.gz and train-labels"
    with pytest.raises(ValueError, match=rf"\Adata \(=.*\) {allowed}") as caught:
        load_data(f"idx:{tmp_path / name}")
    assert str(caught.value).isprintable()


def test_settings_that_images_cannot_have_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"idx:{write(tmp_path, usual())}"
    for field, value, said in (
        ("channels", 3, "must be 1, as its images have"),
        ("loading", "stream", "must be memory or auto, because its images are in memory"),
        ("map_at", 5, "must not be given for .*, whose images have one label each"),
    ):
        with pytest.raises(ValueError, match=rf"\A{field} \(='?{value}'?\) {said}"):
            load_data(DataConfig(name=name, **{field: value}))
    monkeypatch.setattr(idx, "_MAX_BYTES", 30 * 9**2)
    assert load_data(DataConfig(name=name, image_size=9)).shape == (1, 9, 9)
    with pytest.raises(ValueError, match=r"\Aimage_size \(=10\) must be smaller: 30 images of thi"):
        load_data(DataConfig(name=name, image_size=10))


def test_a_class_without_training_images_is_left_out_on_request(tmp_path: Path) -> None:
    labels = np.where(np.arange(40) == 35, 9, LABELS).astype(np.uint8)
    name = f"idx:{write(tmp_path, usual(labels=labels))}"
    with pytest.raises(ValueError, match=r"no images for training of class 9; bad_images skip"):
        load_data(name)
    data = load_data(DataConfig(name=name, bad_images="skip"))
    assert (data.classes, len(data.test)) == (("0", "1", "2", "3"), 9)


def parquet(images: Array, labels: Array, path: Path) -> None:
    import datasets

    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=list("abcdefghij"))
    )
    rows = {"image": [Image.fromarray(image) for image in images], "label": labels.tolist()}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)


CLOTHES = np.random.default_rng(2).integers(0, 256, (60, 28, 28), dtype=np.uint8)
KINDS = (np.arange(60) % 10).astype(np.uint8)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache on a machine that has no Fashion-MNIST, nor the hub."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(idx, "_PACKAGE", tmp_path / "package")
    return tmp_path / "cache" / "spectrum" / "fashion_mnist"


def test_fashion_mnist_is_the_same_wherever_it_is_found(
    nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hub_cache")
    from spectrum.data.hub import load_files

    asked = []
    tables = {"train": slice(40), "test": slice(40, None)}
    for name, part in tables.items():
        parquet(CLOTHES[part], KINDS[part], tmp_path / f"{name}.parquet")

    def load_from_hub(name: str) -> dict[str, Any]:
        asked.append(name)
        return load_files({key: [str(tmp_path / f"{key}.parquet")] for key in tables})

    monkeypatch.setattr("spectrum.data.records.load_from_hub", load_from_hub)
    for size in (None, 14):
        config = DataConfig(name="fashion_mnist", image_size=size, validation=0.25)
        of_hub = load_data(config)
        assert asked.pop() == "zalando-datasets/fashion_mnist"
        found = []
        for folder in (nowhere, idx._PACKAGE):
            write(folder, {f"{n}.gz": part for n, part in usual(CLOTHES, KINDS, 40).items()})
            found.append(load_data(config))
        for path in (*nowhere.iterdir(), *idx._PACKAGE.iterdir()):
            path.unlink()  # an empty folder has no data
        assert not asked
        assert {data.fingerprint for data in found} == {of_hub.fingerprint}
        assert {data.classes for data in found} == {of_hub.classes}
        assert of_hub.classes[9] == "Ankle boot"
        assert len(of_hub.test) == 20
        for data in found:
            assert np.array_equal(data.test.images, of_hub.test.images)  # type: ignore[attr-defined]


def test_where_fashion_mnist_is_missing_one_line_says_the_ways(
    nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hub_cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"\Adata \(='fashion_mnist'\) ") as caught:
        load_data("fashion_mnist")
    for way in (
        "install Debian's package dataset-fashion-mnist",
        f"put its four files into {nowhere}",
        "let datasets download zalando-datasets/fashion_mnist, which isn't in the cache",
        "HF_HUB_OFFLINE forbids asking the hub",
    ):
        assert way in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_copy_of_fashion_mnist_is_named(nowhere: Path) -> None:
    write(nowhere, usual(CLOTHES, KINDS + 10, 40))
    with pytest.raises(ValueError, match=r"must have labels in 0..9, .* image 0 has 10"):
        load_data("fashion_mnist")
    write(nowhere, {IMAGES: content(CLOTHES[:40])[:-5]})
    with pytest.raises(ValueError, match=rf"\A{nowhere}/{IMAGES} is damaged: it is cut short"):
        load_data("fashion_mnist")
    (nowhere / IMAGES).unlink()
    with pytest.raises(ValueError, match=r"must have a file of images beside /.*/train-labels"):
        load_data("fashion_mnist")


@pytest.mark.skipif(
    not idx._PACKAGE.is_dir(), reason="needs Debian's package dataset-fashion-mnist"
)
def test_the_real_fashion_mnist() -> None:
    source = read_fashion_mnist(DataConfig(name="fashion_mnist"))
    parts = {"train": (TRAIN, 60_000), "t10k": (TEST, 10_000)}
    for name, (split, count) in parts.items():
        own = source.splits == split
        files = [
            gzip.decompress(path.read_bytes()) for path in sorted(idx._PACKAGE.glob(f"{name}-*"))
        ]
        pixels = np.frombuffer(files[0], np.uint8, offset=16).reshape(count, 28, 28)
        assert np.array_equal(source.pixels[own, 0], pixels)
        assert bytes(source.targets[own].astype(np.uint8)) == files[1][8:]
        assert np.bincount(source.targets[own]).tolist() == [count // 10] * 10
    first = {split: source.targets[source.splits == split][:10].tolist() for split in (TRAIN, TEST)}
    assert first == {TRAIN: [9, 0, 0, 3, 0, 2, 7, 2, 5, 5], TEST: [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]}
    data = load_data(DataConfig(name="fashion_mnist", train_images=10_000))
    sizes = [len(part) for part in (data.train, data.validation, data.test)]
    assert (sizes, data.shape) == ([10_000, 12_000, 10_000], (1, 28, 28))
    assert data.test.labels.tolist() == source.targets[60_000:].tolist()
