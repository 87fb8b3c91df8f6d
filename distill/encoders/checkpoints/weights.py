"""The parts of every layout: weights in safetensors, a tokenizer, and JSON files whose values are checked by name."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from distill.models.files import WEIGHTS, check_folder, read_header, read_json, weight_files
from distill.models.loading import check_finite, load_config, named_faults
from distill.models.locate import ModelError


def write_json(file: Path, content: Any) -> None:
    """Write JSON with sorted keys, so that equal content gives equal bytes."""
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def refuse(file: Path, field: str, value: Any, remedy: str) -> ModelError:
    """Return the error for a value of a checkpoint that a student cannot have."""
    return ModelError(f"{file}: {field} is {json.dumps(value, ensure_ascii=False, default=str)}; {remedy}")


def require(file: Path, content: Mapping[str, Any], field: str, allowed: Sequence[Any], remedy: str) -> None:
    """Raise a `ModelError` for a field with another value than the allowed ones."""
    if field in content and content[field] not in allowed:
        raise refuse(file, field, content[field], remedy)


def whole_number(file: Path, content: Mapping[str, Any], field: str, default: int) -> int:
    """Return a field that is a whole number from 1, the default where it is missing; anything else is a `ModelError`."""
    value = content.get(field, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise refuse(file, field, value, "expected a whole number from 1; correct the file")
    return value


def truth(file: Path, content: Mapping[str, Any], field: str, *, default: bool) -> bool:
    """Return a field that is true or false, the default where it is missing; anything else is a `ModelError`."""
    value = content.get(field, default)
    if not isinstance(value, bool):
        raise refuse(file, field, value, "expected true or false; correct the file")
    return value


def text(file: Path, content: Mapping[str, Any], field: str, default: str) -> str:
    """Return a field that is a text, the default where it is missing; anything else is a `ModelError`."""
    value = content.get(field, default)
    if not isinstance(value, str):
        raise refuse(file, field, value, "expected a text; correct the file")
    return value


def texts(file: Path, content: Mapping[str, Any], field: str, default: Sequence[str]) -> tuple[str, ...]:
    """Return a field that is a list of texts, the default where it is missing; anything else is a `ModelError`."""
    value = content.get(field, default)
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise refuse(file, field, value, "expected a list of texts; correct the file")
    return tuple(value)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read all tensors of a folder's model.safetensors, or of the files that its index names.

    Pickled weights are refused: loading them can run code. So are files that are damaged, and weights that are NaN or infinite.
    """
    state: dict[str, Tensor] = {}
    for file in weight_files(folder):
        read_header(file)
        with named_faults(str(file)), safe_open(file, framework="pt") as tensors:
            own = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
        check_finite(own.items(), str(file))
        state |= own
    return state


def projection_of(weight: Float[Tensor, "D H"]) -> nn.Linear:
    """Make a projection without bias that has these weights."""
    projection = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    projection.weight.data.copy_(weight)
    return projection


def write_weights(state: Mapping[str, Tensor], folder: Path) -> None:
    """Write tensors as model.safetensors, in their own types."""
    # Tied weights share storage, which safetensors refuses: every tensor is written out.
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    save_file(copies, folder / WEIGHTS, {"format": "pt"})


def backbone_from_state(folder: Path, state: Mapping[str, Tensor], *, heads: bool = False) -> PreTrainedModel:
    """Make a float32 backbone with the weights of `state`, whose names carry the architecture's prefix (`bert.`, `roberta.` ...) or none.

    A pooler that the weights do not have is left out: nothing may depend on random weights. Other missing weights are a `ModelError`, and
    so are weights that the backbone does not have, unless `heads` says that the checkpoint may have heads, which are left out.
    """
    check_folder(folder)
    config = load_config(str(folder))
    with named_faults(str(folder)):
        backbone = AutoModel.from_config(config, dtype=torch.float32)
    prefix = f"{backbone.base_model_prefix}."
    own = {
        _name(name.removeprefix(prefix)): value.float() if value.is_floating_point() else value
        for name, value in state.items()
    }
    for name, weight in backbone.state_dict().items():
        if name in own and own[name].shape != weight.shape:
            raise refuse(
                folder / WEIGHTS,
                f"the shape of '{name}'",
                list(own[name].shape),
                f"but by config.json it is {list(weight.shape)}; the two are of different models: fetch the checkpoint again",
            )
    result = backbone.load_state_dict(own, strict=False)
    missing = [name for name in result.missing_keys if not name.startswith("pooler.")]
    if missing:
        raise ModelError(
            f"'{folder}' lacks {len(missing)} weights of {type(backbone).__name__}, among them {missing[:3]}"
        )
    if len(missing) != len(result.missing_keys):
        backbone.pooler = None
    left = [name for name in result.unexpected_keys if not name.endswith("position_ids")]
    if left and not heads:
        raise ModelError(
            f"'{folder}' has {len(left)} weights that {type(backbone).__name__} of a student does not have, among them {left[:3]}"
        )
    return backbone


def _name(name: str) -> str:
    # The first BERT checkpoints, converted from TensorFlow, have its names.
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def write_backbone(
    backbone: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    extra: Mapping[str, Tensor],
    architecture: str,
    prefix: str,
) -> None:
    """Write weights under a prefix with `extra` ones beside them, config.json and the tokenizer."""
    state = {f"{prefix}{name}": value for name, value in backbone.state_dict().items()}
    write_weights(state | dict(extra), folder)
    write_json(
        folder / "config.json", backbone.config.to_dict() | {"architectures": [architecture], "dtype": "float32"}
    )
    tokenizer.save_pretrained(folder)
    _make_tokenizer_portable(folder / "tokenizer_config.json")


def _make_tokenizer_portable(file: Path) -> None:
    """Write what transformers 5 names anew under the names of transformers 4, so that PLAID-X and PyLate can load it.

    These are the generic tokenizer class and the list of additional special tokens. transformers 5 reads both names.
    """
    config = read_json(file)
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    write_json(file, config)
