"""The steps of a run, each kept in the workspace under what it depends on."""

from stillhouse.pipeline.plan import plan
from stillhouse.pipeline.repeating import repeat
from stillhouse.pipeline.reporting import report
from stillhouse.pipeline.run import RunResult, run
from stillhouse.pipeline.verbs import evaluate, score, train, tune

__all__ = ["RunResult", "evaluate", "plan", "repeat", "report", "run", "score", "train", "tune"]
