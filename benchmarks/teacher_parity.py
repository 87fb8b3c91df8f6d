"""How far each engine's scores are from a plain transformers forward pass of the same model: one pair at a time, unpadded, float32.

    python benchmarks/teacher_parity.py

Tiny models with random weights, one of each family, made on the spot. About a minute.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1]))

from distill.encoders.checkpoints import load_late_interaction, save_encoder
from distill.encoders.late_interaction import EncoderSettings, LateInteractionEncoder
from distill.numerics.maxsim import maxsim
from distill.score.settings import BiEncoderTeacher, LateInteractionTeacher
from distill.score.teachers import load_teacher
from distill.score.teachers.encoders import BiEncoder
from tests.tiny_teachers import FAMILIES, PAIRS, PASSAGES, QUERIES, PlainTransformers, make, teacher_settings


def composed(family: str, folder: Path, budget: int) -> tuple[int, float, float]:
    """Of a teacher that composes ids: pairs whose ids differ, the largest difference of scores, and the scores' deviation."""
    plain = PlainTransformers(family, folder)
    teacher: Any = load_teacher(teacher_settings(family, folder), "float32", budget, "cpu")
    expected = np.array([plain.score(QUERIES[q], PASSAGES[p]) for q, p in PAIRS])
    ids = [pair.ids for pair in teacher.composer.compose(QUERIES, PASSAGES, PAIRS)]
    wrong = sum(found != plain.ids(QUERIES[q], PASSAGES[p]) for found, (q, p) in zip(ids, PAIRS, strict=True))
    found = teacher.score(QUERIES, PASSAGES, PAIRS).scores
    return wrong, float(np.abs(found - expected).max()), float(expected.std())


def bi_encoder(folder: Path, budget: int) -> tuple[int | None, float, float]:
    model: Any = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    teacher = BiEncoder(BiEncoderTeacher(model=str(folder)), "float32", budget, "cpu")

    def vector(text: str) -> torch.Tensor:
        with torch.inference_mode():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
        return hidden / hidden.norm()

    expected = np.array([(vector(QUERIES[q]) @ vector(PASSAGES[p])).item() for q, p in PAIRS])
    return None, float(np.abs(teacher.score(QUERIES, PASSAGES, PAIRS).scores - expected).max()), float(expected.std())


def late_interaction(folder: Path, budget: int) -> tuple[int | None, float, float]:
    torch.manual_seed(0)
    save_encoder(LateInteractionEncoder.from_backbone(str(folder), EncoderSettings(dim=16)), folder / "colbert")
    encoder = load_late_interaction(folder / "colbert")
    expected = []
    for q, p in PAIRS:
        passage = encoder.encode_passages([PASSAGES[p]])[0][None, None]
        keep = torch.ones(passage.shape[:3], dtype=torch.bool)
        expected.append(maxsim(encoder.encode_queries([QUERIES[q]]), passage, keep).item())
    teacher = load_teacher(LateInteractionTeacher(model=str(folder / "colbert")), "float32", budget, "cpu")
    found = teacher.score(QUERIES, PASSAGES, PAIRS).scores
    return None, float(np.abs(found - expected).max()), float(np.std(expected))


def main() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    print(f"transformers {transformers.__version__}, torch {torch.__version__}; {len(PAIRS)} pairs, float32\n")
    print(
        "| family | pairs with other ids | largest difference, batches of 1 | of 700 padded tokens | deviation of the scores |"
    )
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as parent:
        rows: list[tuple[str, Any]] = []
        for family in FAMILIES:
            (Path(parent) / family).mkdir()
            folder = make(family, Path(parent) / family)
            rows.append((family, lambda budget, family=family, folder=folder: composed(family, folder, budget)))
        bert = Path(parent) / "bert"
        rows.append(("bi-encoder (bert)", lambda budget: bi_encoder(bert, budget)))
        rows.append(("late interaction (bert)", lambda budget: late_interaction(bert, budget)))
        for name, measure in rows:
            (wrong, alone, spread), (_, padded, _) = measure(1), measure(700)
            assert not wrong, name
            assert max(alone, padded) < 1e-4, name
            print(
                f"| {name} | {'not composed' if wrong is None else wrong} | {alone:.1e} | {padded:.1e} | {spread:.2g} |"
            )


if __name__ == "__main__":
    main()
