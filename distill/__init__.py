"""The methods: data contracts, configuration, and the numerical cores of distillation and retrieval.

The names below are the Python API (docs/python.md). Each is imported when it is first used, so that `import distill` loads neither
torch nor pyarrow; none of them needs Ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.encoders.checkpoints import load_encoder, save_encoder
    from distill.encoders.encoder import Encoder
    from distill.index.exact import ExactIndex
    from distill.models.locate import ModelError
    from distill.numerics.maxsim import maxsim_all
    from distill.runs import Run
    from distill.score.settings import (
        BiEncoderTeacher,
        CausalTeacher,
        CrossEncoderTeacher,
        HttpTeacher,
        LateInteractionTeacher,
        MonoT5Teacher,
    )
    from distill.score.teachers import load_teacher, score_pairs
    from distill.train import losses, margins

__all__ = [
    "BiEncoderTeacher",
    "CausalTeacher",
    "CrossEncoderTeacher",
    "Encoder",
    "ExactIndex",
    "HttpTeacher",
    "LateInteractionTeacher",
    "ModelError",
    "MonoT5Teacher",
    "Run",
    "load_encoder",
    "load_teacher",
    "losses",
    "margins",
    "maxsim_all",
    "save_encoder",
    "score_pairs",
]

_MODULES = {
    "BiEncoderTeacher": "distill.score.settings",
    "CausalTeacher": "distill.score.settings",
    "CrossEncoderTeacher": "distill.score.settings",
    "Encoder": "distill.encoders.encoder",
    "ExactIndex": "distill.index.exact",
    "HttpTeacher": "distill.score.settings",
    "LateInteractionTeacher": "distill.score.settings",
    "ModelError": "distill.models.locate",
    "MonoT5Teacher": "distill.score.settings",
    "Run": "distill.runs",
    "load_encoder": "distill.encoders.checkpoints",
    "load_teacher": "distill.score.teachers",
    "losses": "distill.train.losses",
    "margins": "distill.train.margins",
    "maxsim_all": "distill.numerics.maxsim",
    "save_encoder": "distill.encoders.checkpoints",
    "score_pairs": "distill.score.teachers",
}
"""The module of each public name; `losses` and `margins` are modules themselves."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module 'distill' has no attribute {name!r}")
    module = import_module(_MODULES[name])
    value = module if _MODULES[name].endswith(f".{name}") else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
