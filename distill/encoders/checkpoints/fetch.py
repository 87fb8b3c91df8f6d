"""Checkpoints on any file system: read and written by way of a temporary local folder."""

import tempfile

import pyarrow.fs as pafs
import torch

from cluster.copying import download, upload, upload_whole
from distill.encoders.checkpoints import load_encoder, save_encoder
from distill.encoders.encoder import Encoder


def fetch_encoder(filesystem: pafs.FileSystem, folder: str, device: str | torch.device = "cpu") -> Encoder:
    """Return `load_encoder` of a checkpoint in a folder of a file system."""
    with tempfile.TemporaryDirectory() as local:
        download(filesystem, folder, local)
        return load_encoder(local, device)


def upload_encoder(encoder: Encoder, filesystem: pafs.FileSystem, folder: str, *, whole: bool = False) -> None:
    """Write an encoder's checkpoint to a folder of a file system.

    Args:
        encoder: the student.
        filesystem: where the folder is.
        folder: where to; made if it is not there.
        whole: whether to write the list of files too, by which `cluster.copying.is_whole` knows a checkpoint that was written to its end.
    """
    with tempfile.TemporaryDirectory() as local:
        save_encoder(encoder, local)
        (upload_whole if whole else upload)(local, filesystem, folder)
