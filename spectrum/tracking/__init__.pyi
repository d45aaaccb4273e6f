from .events import (
    OnStudyEvent,
    RunEvaluated,
    RunFinished,
    RunNote,
    RunStarted,
    StudyEvent,
    StudyFinished,
)

__all__ = [
    "OnStudyEvent",
    "RunEvaluated",
    "RunFinished",
    "RunNote",
    "RunStarted",
    "StudyEvent",
    "StudyFinished",
]
