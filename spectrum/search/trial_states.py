"""What a trial in a storage stands for: whether it is over, lost or superfluous, and its point."""

from __future__ import annotations

from optuna.trial import FrozenTrial, TrialState

from spectrum.search.space import Space

ERROR = "error"
"""The attribute of a trial that has failed for good. A lost trial has none."""

DUPLICATE = "twin"
"""The attribute of a superfluous trial: its point is another trial's, or it exceeds ``trials``.

Its name stays "twin", since databases of earlier searches hold it.
"""


def is_lost(trial: FrozenTrial) -> bool:
    """Whether a trial was lost with its process, or given back by it."""
    return trial.state == TrialState.FAIL and ERROR not in trial.user_attrs


def is_over(trial: FrozenTrial) -> bool:
    """Whether a trial is done, pruned or failed, and neither lost nor superfluous."""
    is_finished = trial.state.is_finished() and not is_lost(trial)
    return is_finished and DUPLICATE not in trial.user_attrs


def trial_params(trial: FrozenTrial, space: Space) -> dict[str, str] | None:
    """The point of a trial; None if it has no point yet or one of another space."""
    params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
    return params if params.keys() == space.choices.keys() else None
