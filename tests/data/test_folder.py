"""Class folders as they come: which files are images, of which class and split."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectrum import DataConfig
from spectrum.data.folder import read_folder
from spectrum.data.source import TEST, TRAIN, UNASSIGNED, VALIDATION, Source, split_of
from tests.data.pictures import encoded, noise, write_classes


def read(root: Path | str) -> Source:
    return read_folder(DataConfig(name=f"folder:{root}"))


def names(source: Source) -> list[str]:
    return [source.reader.name(i) for i in range(len(source.reader))]


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content_of(path))


def content_of(path: str) -> bytes:
    """The beginning of an image file, for names without a suffix, and the path."""
    return b"P5 1 1 255\n" + path.encode()


def test_classes_are_folders_by_name_and_images_lie_at_any_depth(tmp_path: Path) -> None:
    touch(tmp_path, "dog/2.jpg", "dog/1.jpg", "cat/d.png/er/x.webp", "cat/b", "Ant/a.PNG")
    (tmp_path / "dog" / "z.png").mkdir()
    source = read(tmp_path)
    assert source.classes == ("Ant", "cat", "dog")
    assert names(source) == ["Ant/a.PNG", "cat/b", "cat/d.png/er/x.webp", "dog/1.jpg", "dog/2.jpg"]
    assert source.targets.tolist() == [0, 1, 1, 2, 2]
    assert source.splits.tolist() == [UNASSIGNED] * 5
    assert source.notes == ()
    assert source.reader.read(2) == content_of("cat/d.png/er/x.webp")


NAMES = {
    TRAIN: ["train", "training", "Trn", "trainval", "TrainSet"],
    VALIDATION: ["val", "valid", "validation", "dev", "eval", "evaluation"],
    TEST: ["test", "testing", "tst", "holdout", "held-out", "hold_out", "t10k"],
}
FORMS = ["{}", "{}2017", "my_{}", "{}-images", "{} set", "00_{}.v2", "{}set", "Data{}", "été {}"]


@given(
    held_out=st.sampled_from([(VALIDATION,), (TEST,), (VALIDATION, TEST), ()]),
    form=st.sampled_from(FORMS),
    convert=st.sampled_from([str, str.upper, str.capitalize]),
    data=st.data(),
)
def test_splits_are_folders(
    held_out: tuple[int, ...],
    form: str,
    convert: Callable[[str], str],
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("splits")
    splits = {
        form.format(convert(data.draw(st.sampled_from(NAMES[split])))): split
        for split in (TRAIN, *held_out)
    }
    if "Data{}" in form and convert is str:  # "Datatrain" is one word
        splits = {name.replace("Data", "Data "): split for name, split in splits.items()}
    for folder in splits:
        touch(root, f"{folder}/b/1", f"{folder}/a/2")
    source = read(root)
    assert (source.classes, source.notes) == (("a", "b"), ())
    found = dict(zip(names(source), source.splits.tolist(), strict=True))
    assert found == {f"{f}/{image}": splits[f] for f in splits for image in ("a/2", "b/1")}


@pytest.mark.parametrize(
    "name",
    [
        "latest",
        "trainers",
        "valley",
        "contest",
        "value",
        "attestation",
        "device",
        "str",
        "devil",
        "holding out",
        "testé",
        "détest",
    ],
)
def test_words_that_only_contain_the_name_of_a_split(name: str) -> None:
    assert split_of(name) == split_of(name.upper()) == UNASSIGNED


@pytest.mark.parametrize("names", [("learn", "check"), ("part1", "part2"), ("train", "extra")])
@pytest.mark.parametrize("inner", [("cat", "dog"), ("0", "1", "2"), ("a",)])
def test_folders_divided_under_other_names_are_refused(
    names: tuple[str, ...], inner: tuple[str, ...], tmp_path: Path
) -> None:
    for name in names:
        touch(tmp_path, *(f"{name}/{folder}/1" for folder in inner))
    shared = ", ".join(inner)
    seen = " and ".join(sorted(names))
    with pytest.raises(
        ValueError, match=rf"\Ahas the folders {seen}, which both hold {shared}; name"
    ):
        read(tmp_path)


@pytest.mark.parametrize("other", ["bus", "bus/old"])
def test_a_train_folder_of_folders_beside_another_is_refused(other: str, tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/1", "train/dog/1", f"{other}/1")
    with pytest.raises(ValueError, match="has train with the folders cat, dog, beside bus; name"):
        read(tmp_path)


@pytest.mark.parametrize(
    "names",
    [("train", "test"), ("Train2017", "val2017"), ("my_val", "train"), ("train", "test", "x")],
)
def test_splits_without_classes_are_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    touch(tmp_path, *(f"{name}/1" for name in names))
    with pytest.raises(ValueError, match=r"must have a folder for each class in [Tt]rain"):
        read(tmp_path)


def test_a_folder_between_may_have_the_name_of_a_split(tmp_path: Path) -> None:
    for split in ("seg_train", "seg_test"):
        touch(tmp_path, f"train-test-data/{split}/{split}/cat/1", f"train-test-data/{split}/x.csv")
    source = read(tmp_path)
    assert source.classes == ("cat",)
    assert source.splits.tolist() == [TEST, TRAIN]
    assert source.notes[-1] == "left out beside the class folders: 2 files"


def test_classes_may_have_folders_of_their_own(tmp_path: Path) -> None:
    touch(tmp_path, "cat/tabby/1", "cat/manx/1", "dog/pug/1", "Training shoes/old/1")
    source = read(tmp_path)
    assert source.classes == ("Training shoes", "cat", "dog")
    assert set(source.splits.tolist()) == {UNASSIGNED}


@pytest.mark.parametrize("between", ["images", "data/set 1/jpg"])
@pytest.mark.parametrize("splits", [("",), ("Training/", "Testing/")])
def test_a_single_folder_in_between_is_passed_through(
    between: str, splits: tuple[str, ...], tmp_path: Path
) -> None:
    for split in splits:
        touch(tmp_path, f"{between}/{split}cat/1", f"{between}/{split}dog/1")
    touch(tmp_path, "README.md", "__MACOSX/x/1")
    source = read(tmp_path)
    assert source.classes == ("cat", "dog")
    assert source.notes == (
        f"the images are taken from {between}, the only folder there",
        "left out beside the class folders: 1 file",
    )
    for split in splits:
        touch(tmp_path / "inside", f"{split}{between}/cat/1", f"{split}{between}/dog/1")
    assert read(tmp_path / "inside").classes == ("cat", "dog")


@given(
    other=st.sampled_from(
        [
            "Thumbs.db",
            "desktop.ini",
            ".DS_Store",
            "._1.png",
            "labels.csv",
            "notes.txt",
            "a.json",
            "README",
            "x.xml",
            "clip.mp4",
            "weights.h5",
            "archive.zip",
            ".x.png",
        ]
    ),
    content=st.sampled_from(
        [b"", b"text", b"\x00\x05\x16\x07", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"]
    ),
)
def test_files_that_are_no_images_are_counted(
    other: str, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("others")
    touch(root, "cat/1.jpg", "dog/deep/2")
    (root / "dog" / "deep" / other).write_bytes(content)
    (root / "cat" / "truncated.JPEG").write_bytes(content)
    source = read(root)
    assert names(source) == ["cat/1.jpg", "cat/truncated.JPEG", "dog/deep/2"]
    assert source.notes == (
        f"left out because they are hidden or no images: 1 file, dog/deep/{other}",
    )


def test_words_of_splits_in_names_of_classes(tmp_path: Path) -> None:
    touch(tmp_path, "test tube/1", "training shoes/1", "valley/1")
    assert read(tmp_path).classes == ("test tube", "training shoes", "valley")


def test_a_class_may_have_the_name_of_a_split(tmp_path: Path) -> None:
    touch(tmp_path, "train/1", "bus/1", "tram/1")
    assert read(tmp_path).classes == ("bus", "train", "tram")
    assert set(read(tmp_path).splits) == {UNASSIGNED}


def test_what_isnt_used_is_noted_unless_it_is_hidden(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1", "train/b/1", "test/1", "test/2", "extra/x/1", "README.txt")
    touch(tmp_path, "train/list.csv", "train/b/.cache/x", ".git/x", ".hidden", "__MACOSX/train/a/1")
    source = read(tmp_path)
    assert names(source) == ["train/a/1", "train/b/1"]
    assert source.notes == (
        "test has no class folders and isn't used",
        "extra beside train isn't used",
        "left out beside the class folders: 2 files",
    )


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        ([], "must have a folder of images for each class"),
        (["1.png", "2.png"], "must have a folder of images for each class"),
        (["val/a/1", "test/a/1"], "must have a folder train beside the other splits"),
        (["train/1", "test/a/1"], "must have a folder for each class in train"),
        (["train/a/1", "val/a/1", "valid/a/1"], "has both "),
    ],
)
def test_folders_that_cant_be_used(tmp_path: Path, paths: list[str], reason: str) -> None:
    touch(tmp_path, *paths)
    with pytest.raises(ValueError, match=rf"\A{reason}[^\n]*\Z"):
        read(tmp_path)


def test_a_folder_that_isnt_there_or_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\Amust be a folder, but there is none\Z"):
        read(tmp_path / "nowhere")
    touch(tmp_path, "file")
    with pytest.raises(ValueError, match=r"\Acan't be read \(not a directory: .*/file\)\Z"):
        read(tmp_path / "file")


def test_names_in_any_script_and_names_that_are_no_text(tmp_path: Path) -> None:
    written = [
        "猫/子猫 一.png", "кот/кошка.png", "قطة/قط.png", "γάτα/x y  z.png", "a\tb/new\nline.png",
        "e/" + "n" * 251 + ".png", "😀/👩‍🚀.png",
    ]  # fmt: skip
    for path in written:
        touch(tmp_path, path)
    raw = os.path.join(os.fsencode(tmp_path), b"latin-\xe9")
    os.mkdir(raw)
    with open(os.path.join(raw, b"\xff\xfe.png"), "wb") as file:
        file.write(b"not text")
    source = read(tmp_path)
    assert len(source.classes) == 8
    assert {"猫", "кот", "قطة", "γάτα", "e", "😀", "a\\tb", "latin-\\udce9"} == set(source.classes)
    found = names(source)
    assert set(found) == {
        *(path for path in written if "\n" not in path),
        "a\\tb/new\\nline.png",
        "latin-\\udce9/\\udcff\\udcfe.png",
    }
    for i, name in enumerate(found):
        name.encode()
        assert source.classes[source.targets[i]] == name.split("/")[0]
        content = source.reader.read(i)
        assert content == (b"not text" if "latin" in name else content)
        if name in written:
            assert content == content_of(name)


def test_links_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    root = tmp_path / "root"
    touch(tmp_path, "elsewhere/1", "elsewhere/deep/2")
    touch(root, "a/0", "b/0")
    (root / "a" / "link").symlink_to(tmp_path / "elsewhere" / "1")
    (root / "a" / "folder").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "circle").symlink_to(root / "a")
    (root / "a" / "up").symlink_to(root)
    (root / "b" / "missing").symlink_to(tmp_path / "nowhere")
    (root / "b" / "itself").symlink_to(root / "b" / "itself")
    (root / "c").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(root / "b" / "pipe")
    source = read(root)
    own = [name for name in names(source) if "up/" not in name]
    assert own == [
        "a/0",
        "a/folder/1",
        "a/folder/deep/2",
        "a/link",
        "b/0",
        "b/itself",
        "b/missing",
        "c/1",
        "c/deep/2",
    ]
    assert not any("circle" in name or "up/a/" in name for name in names(source))
    assert source.reader.read(own.index("a/link")) == content_of("elsewhere/1")
    assert source.reader.version(names(source).index("b/missing")) == ""


def test_the_reader_can_be_pickled(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 2, "b": 1})
    reader = pickle.loads(pickle.dumps(read(tmp_path).reader))
    assert [reader.name(i) for i in range(len(reader))] == ["a/0.png", "a/1.png", "b/0.png"]
    assert reader.read(1) == (tmp_path / "a" / "1.png").read_bytes()


def test_the_version_changes_with_the_file(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 1, "b": 1})
    reader = read(tmp_path).reader
    versions = [reader.version(i) for i in range(2)]
    assert versions == [reader.version(i) for i in range(2)]
    (tmp_path / "b" / "0.png").write_bytes(encoded(noise(9, 8, 9)))
    assert reader.version(0) == versions[0]
    assert reader.version(1) != versions[1]


def test_a_thousand_files_take_little_room(tmp_path: Path) -> None:
    touch(tmp_path, "content")
    for i in range(10):
        (tmp_path / "root" / f"{i:02}").mkdir(parents=True)
        for j in range(100):
            os.link(tmp_path / "content", tmp_path / "root" / f"{i:02}" / f"{j:02}.png")
    source = read(tmp_path / "root")
    assert source.targets.tolist() == [i // 100 for i in range(1000)]
    assert source.reader.name(417) == "04/17.png"
    assert len(pickle.dumps(source.reader)) < 20_000
