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
from transformers import AutoConfig, AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from distill.models.locate import ModelError

WEIGHTS = "model.safetensors"


def read_json(file: Path) -> Any:
    """Return the content of a JSON file; a `ModelError` if it cannot be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read as JSON: {error}") from error


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


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read all tensors of a folder's model.safetensors, or of the files that its index names.

    Pickled weights are refused: loading them can run code.
    """
    index = folder / f"{WEIGHTS}.index.json"
    if (folder / WEIGHTS).is_file():
        files = [folder / WEIGHTS]
    elif index.is_file():
        files = [folder / name for name in sorted(set(read_json(index)["weight_map"].values()))]
    else:
        raise ModelError(_no_weights(folder))
    state: dict[str, Tensor] = {}
    for file in files:
        if not file.is_file():
            raise ModelError(f"{index} names {file.name}, which is not there; fetch the checkpoint again")
        with safe_open(file, framework="pt") as tensors:
            state |= {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    return state


def _no_weights(folder: Path) -> str:
    start = f"'{folder}' has no .safetensors weights"
    pickles = sorted([*folder.glob("pytorch_model.bin"), *folder.glob("*.dnn")])
    if (folder / "adapter_config.json").is_file():
        return f"{start} but an adapter; merge it with peft's merge_and_unload and save the whole model"
    if not pickles:
        return f"{start}; save it with transformers' save_pretrained, which writes {WEIGHTS}"
    state = f"torch.load({str(pickles[0])!r}, map_location='cpu', weights_only=True)"
    if pickles[0].suffix == ".dnn":
        state = f"torch.load({str(pickles[0])!r}, map_location='cpu', weights_only=False)['model_state_dict']"
    line = (
        f"import torch, safetensors.torch as s; s.save_file({{n: t.clone().contiguous() for n, t in {state}.items()}}, "
        f"{str(folder / WEIGHTS)!r}, {{'format': 'pt'}})"
    )
    trust = ", if you trust whoever made it," if pickles[0].suffix == ".dnn" else ""
    return f'{start}, and pickled ones are not loaded, because that can run code; convert {pickles[0].name}{trust} with: python -c "{line}"'


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
    backbone = AutoModel.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)
    prefix = f"{backbone.base_model_prefix}."
    own = {
        _name(name.removeprefix(prefix)): value.float() if value.is_floating_point() else value
        for name, value in state.items()
    }
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
