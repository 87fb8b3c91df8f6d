"""What tests of meta-learning share."""

from pathlib import Path

import pytest

from distill.encoders.checkpoints import load_backbone, save_encoder
from distill.encoders.single_vector import SingleVectorEncoder, SingleVectorSettings


@pytest.fixture(scope="session")
def tiny_encoder(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a tiny single-vector encoder."""
    folder = tmp_path_factory.mktemp("tiny_encoder")
    backbone, tokenizer = load_backbone(tiny_bert)
    save_encoder(SingleVectorEncoder(backbone, tokenizer, SingleVectorSettings(passage_tokens=32)), folder)
    return folder
