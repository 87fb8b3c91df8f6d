"""The stages of a distillation as steps of a job: inputs, identity, needs, version of the code, work, checks.

The functions here only describe: nothing runs, and nothing heavy is imported before a stage runs. Raise a stage's `version` with a change
that changes what the stage writes; outputs of the old version are then not reused.
"""

from jobs.running.distillation.student import evaluate, imported_mix, index, mix, retrieve, train
from jobs.running.distillation.teaching import calibrate, score, select, sources, translate

__all__ = [
    "calibrate",
    "evaluate",
    "imported_mix",
    "index",
    "mix",
    "retrieve",
    "score",
    "select",
    "sources",
    "train",
    "translate",
]
