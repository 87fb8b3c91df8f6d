"""Checkpoints on any file system: read and written by way of a temporary local folder."""

import tempfile

import pyarrow.fs as pafs
import torch

from cluster.atomic import write_bytes
from distill.encoders.checkpoints import load_encoder, save_encoder
from distill.encoders.encoder import Encoder


def fetch_encoder(filesystem: pafs.FileSystem, folder: str, device: str | torch.device = "cpu") -> Encoder:
    """Return `load_encoder` of a checkpoint in a folder of a file system."""
    with tempfile.TemporaryDirectory() as local:
        pafs.copy_files(folder, local, source_filesystem=filesystem, destination_filesystem=pafs.LocalFileSystem())
        return load_encoder(local, device)


def upload(local: str, filesystem: pafs.FileSystem, folder: str) -> None:
    """Copy a local folder's files to a folder of a file system, which is made if it is not there."""
    filesystem.create_dir(folder, recursive=True)
    pafs.copy_files(local, folder, source_filesystem=pafs.LocalFileSystem(), destination_filesystem=filesystem)


def upload_encoder(encoder: Encoder, filesystem: pafs.FileSystem, folder: str) -> None:
    """Write an encoder's checkpoint to a folder of a file system."""
    with tempfile.TemporaryDirectory() as local:
        save_encoder(encoder, local)
        upload(local, filesystem, folder)


def upload_whole(encoder: Encoder, filesystem: pafs.FileSystem, folder: str) -> None:
    """Write an encoder's checkpoint and then the mark that `is_whole` reads."""
    upload_encoder(encoder, filesystem, folder)
    write_bytes(filesystem, _mark(folder), b"")


def is_whole(filesystem: pafs.FileSystem, folder: str) -> bool:
    """Return whether `upload_whole` wrote a checkpoint to its end."""
    return filesystem.get_file_info(_mark(folder)).type == pafs.FileType.File


def _mark(folder: str) -> str:
    return f"{folder}/complete"
