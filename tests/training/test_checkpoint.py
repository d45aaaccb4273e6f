"""Any damage to a checkpoint is noticed and logged, and training then starts anew."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spectrum.files import write_atomic
from spectrum.training.checkpoint import load_checkpoint, save_checkpoint

STATE: dict[str, Any] = {"weights": torch.arange(50.0), "epoch": 3, "curve": [{"loss": 0.5}]}
many = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def saved(tmp_path: Path) -> bytes:
    save_checkpoint(tmp_path / "good.pt", STATE)
    return (tmp_path / "good.pt").read_bytes()


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    assert load_checkpoint(path) is None
    save_checkpoint(path, STATE)
    state = load_checkpoint(path)
    assert state is not None
    assert torch.equal(state["weights"], STATE["weights"])
    assert {**state, "weights": 0} == {**STATE, "weights": 0}
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]


@many
@given(share=st.floats(0, 0.999))
def test_a_truncated_file_is_logged(
    share: float, saved: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.pt"
    path.write_bytes(saved[: int(share * len(saved))])
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        assert load_checkpoint(path) is None
    assert len(caplog.messages) == 1
    assert "is damaged, training starts anew: " in caplog.messages[0]
    assert "\n" not in caplog.messages[0]


@many
@given(content=st.binary(max_size=2000))
def test_arbitrary_bytes_are_no_checkpoint(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    path.write_bytes(content)
    assert load_checkpoint(path) is None


@many
@given(data=st.data())
def test_a_flipped_bit_of_a_weight_is_noticed(data: Any, saved: bytes, tmp_path: Path) -> None:
    weights = STATE["weights"].numpy().tobytes()
    start = saved.index(weights)
    place = data.draw(st.integers(start, start + len(weights) - 1))
    flipped = bytearray(saved)
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / "state.pt"
    path.write_bytes(flipped)
    assert load_checkpoint(path) is None


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "harm",)

    path = tmp_path / "state.pt"
    torch.save({"weights": Harmful()}, path)
    assert load_checkpoint(path) is None
    assert not (tmp_path / "harm").exists()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, lambda file: file.write(b"old"))

    def half(file: Any) -> None:
        file.write(b"new")
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_atomic(path, half)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
