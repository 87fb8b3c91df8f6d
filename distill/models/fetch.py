"""Models fetched from the Hugging Face hub."""

from pathlib import Path

from distill.models.locate import locate
from distill.models.reach import check_hub


def fetch_folder(model: str, revision: str | None = None, *, pickled: bool = False) -> str:
    """Return the local folder of a model, fetched from the hub where it lies there: safetensors weights, tokenizer and configuration.

    Args:
        model: a local folder or a name on the hub.
        revision: commit on the hub.
        pickled: whether to fetch `pytorch_model.bin` of a repository without safetensors.
    """
    found = locate(model)
    if Path(found).is_dir():
        return found
    from huggingface_hub import snapshot_download

    check_hub(found, revision)
    patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "artifact.metadata"]
    folder = snapshot_download(found, revision=revision, allow_patterns=patterns)
    if pickled and not list(Path(folder).glob("*.safetensors")):
        return snapshot_download(found, revision=revision, allow_patterns=[*patterns, "pytorch_model*"])
    return folder
