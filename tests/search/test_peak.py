"""A real search on data whose best point is known before training ends there."""

from pathlib import Path

import pytest

from spectrum import SearchConfig, run_search


def test_a_search_ends_at_the_planted_peak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectrum.search.outputs._draw", lambda *_: {})  # slow, others do
    # Where channels never meet, only segments that hold a whole block of 8 of 16 channels can
    # classify; of those the finer ones are wider at the same cost. See data/planted.py.
    found = run_search(
        SearchConfig(
            segments="1,2,4,8,16",
            per="network",
            order="spatial_only",
            budget=20000,
            epochs=4,
            trials=5,
            seeds=1,
            finalists=1,
            network={"name": "no_stem", "residual": False},
            data={"name": "planted", "block": 8, "images": 2500},
            device="cpu",
            workers=1,
            out=tmp_path,
            runs=tmp_path / "runs",
        )
    )
    winner = found.results.loc[found.results["role"] == "winner", "segments"]
    assert set(winner) == {"2"}
    accuracy = found.trials.set_index("segments")["val_top1"]
    assert accuracy.idxmax() == "2"
    assert accuracy[["8", "16"]].max() < 0.25  # by chance 1/8, whatever the training
    assert "the best other uniform point" in found.sentences[0]
