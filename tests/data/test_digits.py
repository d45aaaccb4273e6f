import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from spectrum import DataConfig, load_data


def test_splits_share_no_image_and_leave_none_out() -> None:
    data = load_data("digits")
    raw = torch.from_numpy(load_digits().images).float()
    # scikit-learn's digits hold no image twice, so an image tells which one it is.
    assert len(raw.flatten(1).unique(dim=0)) == len(raw) == 1797
    parts = [data.train, data.validation, data.test]
    assert [len(part) for part in parts] == [1079, 359, 359]
    together = torch.cat([part.images for part in parts]).flatten(1)
    assert len(together.unique(dim=0)) == 1797
    assert data.shape == tuple(data.train.images.shape[1:]) == (1, 8, 8)
    assert data.classes == tuple("0123456789")


def test_every_split_has_each_class_in_proportion() -> None:
    data = load_data()
    everywhere = np.bincount(load_digits().target) / 1797
    for part in (data.train, data.validation, data.test):
        share = part.labels.bincount(minlength=10).double() / len(part)
        assert torch.allclose(share, torch.from_numpy(everywhere), atol=1.5 / len(part))


def test_labels_stay_with_their_images() -> None:
    digits = load_digits()
    scaled = digits.images.reshape(1797, 64)
    data = load_data()
    images = data.test.images.flatten(1).double().numpy()
    slope, offset = np.polyfit([0, 16], [images.min(), images.max()], 1)
    restored = np.rint((images - offset) / slope)
    label = {image.tobytes(): target for image, target in zip(scaled, digits.target, strict=True)}
    found = [label[image.tobytes()] for image in restored]
    assert found == data.test.labels.tolist()


def test_images_are_normalised_by_the_training_split() -> None:
    images = load_data().train.images
    assert images.dtype == torch.float32
    assert images.mean().item() == pytest.approx(0, abs=1e-5)
    assert images.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_the_split_follows_its_own_seed() -> None:
    first, same = load_data(), load_data(DataConfig())
    other = load_data(DataConfig(split_seed=1))
    assert torch.equal(first.test.images, same.test.images)
    assert not torch.equal(first.test.labels, other.test.labels)
    assert first.fingerprint == same.fingerprint == other.fingerprint


def test_shares_can_be_chosen() -> None:
    data = load_data(DataConfig(validation=0.1, test=0.3))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [1078, 180, 539]


def test_the_fingerprint_follows_the_content(monkeypatch: pytest.MonkeyPatch) -> None:
    from spectrum.data import load
    from spectrum.data.digits import read_digits

    images, labels, classes = read_digits()
    changed = images.copy()
    changed[0, 0, 0, 0] += 1
    before = load_data().fingerprint
    monkeypatch.setattr(load, "read_digits", lambda: (changed, labels, classes))
    assert load_data().fingerprint != before


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "nothing"}, "must be one of digits"),
        ({"test": 0.6, "validation": 0.5}, "must leave at least 0.05 for training"),
        ({"test": 0.0}, "greater than 0"),
        ({"tset": 0.1}, "tset"),
    ],
)
def test_a_bad_configuration_is_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DataConfig(**fields)


def test_a_split_without_room_for_every_class_is_refused() -> None:
    with pytest.raises(ValueError, match=r"validation \(=0.001\) must be at least 0.00556"):
        load_data(DataConfig(validation=0.001))
    with pytest.raises(ValueError, match=r"data \(='nothing'\) must be one of digits"):
        load_data("nothing")
