from pathlib import Path

import pyarrow.fs as pafs
import torch

from cluster.copying import is_whole
from distill.encoders.checkpoints import load_encoder
from distill.encoders.checkpoints.fetch import fetch_encoder, upload_encoder


def test_an_encoder_comes_back_as_it_was_uploaded(tiny_student: Path, tmp_path: Path) -> None:
    filesystem, encoder = pafs.LocalFileSystem(), load_encoder(tiny_student)
    upload_encoder(encoder, filesystem, f"{tmp_path}/one/checkpoint")
    found = fetch_encoder(filesystem, f"{tmp_path}/one/checkpoint")
    assert torch.equal(found.encode_queries(["honey bee"]), encoder.encode_queries(["honey bee"]))


def test_a_checkpoint_is_whole_once_it_has_its_list(tiny_student: Path, tmp_path: Path) -> None:
    filesystem, encoder = pafs.LocalFileSystem(), load_encoder(tiny_student)
    upload_encoder(encoder, filesystem, f"{tmp_path}/start")
    assert not is_whole(filesystem, f"{tmp_path}/start")
    upload_encoder(encoder, filesystem, f"{tmp_path}/start", whole=True)
    assert is_whole(filesystem, f"{tmp_path}/start")
    found = fetch_encoder(filesystem, f"{tmp_path}/start")
    assert torch.equal(found.encode_queries(["honey bee"]), encoder.encode_queries(["honey bee"]))
