"""What a run computes, recorded with the format that it belongs to."""

from pathlib import Path

import pytest

from spectrum import DataConfig, NetworkConfig, Recipe, load_data
from spectrum.runs.config import FORMAT, RunConfig
from spectrum.runs.execute import load_or_train
from spectrum.runs.store import Store

DATA = DataConfig(train_images=160, label_noise=0.1)
NETWORK = NetworkConfig(
    name="tiny", segments="4", num_classes=10, in_channels=1, width=0.2, dropout=0.3
)
# By recipe: the losses on the training and the validation split after three epochs.
LOSSES = {
    "small": (Recipe(epochs=3, crop=1, cutout=2), (2.244359, 2.309103)),
    "imagenet": (Recipe(name="imagenet", epochs=3, precise_bn=64), (1.781019, 1.786236)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_run_computes_what_it_did_when_the_format_was_raised(name: str, tmp_path: Path) -> None:
    """If this fails by more than rounding, raise ``FORMAT`` and record the new losses."""
    recipe, expected = LOSSES[name]
    lines = []
    run = RunConfig(
        network=NETWORK, data=DATA, fingerprint=load_data(DATA).fingerprint, recipe=recipe, seed=5
    )
    load_or_train(run, Store(tmp_path), "cpu", lines.append)
    assert FORMAT == 2
    losses = [lines[-1]["train_loss"], lines[-1]["val_loss"]]
    # With one thread and torch's own operators, rounding alone moves the second recipe's by 0.0025.
    assert losses == pytest.approx(expected, rel=4e-3)
