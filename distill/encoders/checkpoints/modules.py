"""Checkpoints as lists of modules, each with its settings and weights: what sentence-transformers and PyLate write.

`modules.json` names them in order; `config_sentence_transformers.json` holds what belongs to the whole (https://sbert.net). A student has
one shape of each kind, so that every value that would give other scores is checked, and one that a student cannot have is a `ModelError`.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from distill.encoders.checkpoints.weights import read_weights, refuse, require, whole_number
from distill.models.files import read_json, read_object
from distill.models.locate import ModelError

MODULES = "modules.json"
CONFIG = "config_sentence_transformers.json"
TRANSFORMER = "sentence_bert_config.json"
KNOWN = frozenset({"__version__", "model_type", "prompts", "default_prompt_name", "similarity_fn_name", "polyray"})
"""Settings of the whole that are read, or that change no score: `encode_query` and `encode_document` do not read the default prompt."""
_IDENTITY = ["torch.nn.modules.linear.Identity"]
_OWNERS = ("sentence_transformers.", "pylate.")
_TEXT = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
_TRANSFORMER_FIELDS: dict[str, list[Any]] = {
    "do_lower_case": [False, None],
    "transformer_task": ["feature-extraction"],
    "modality_config": [_TEXT, None],
    "module_output_name": ["token_embeddings", None],
    "processing_kwargs": [{}, None],
}
_TRANSFORMER_READ = {"max_seq_length", "query_length", "document_length", "query_expansion", "unpad_inputs"}
"""`unpad_inputs` changes the speed only."""


@dataclass(frozen=True)
class Module:
    """One module of a checkpoint.

    Attributes:
        kind: the name of its class.
        folder: where its weights lie.
        file: its settings.
        config: what they say; empty where there is no such file.
    """

    kind: str
    folder: Path
    file: Path
    config: Mapping[str, Any]

    def require(self, field: str, allowed: Sequence[Any], remedy: str) -> None:
        """Raise a `ModelError` for a field with another value than the allowed ones."""
        require(self.file, self.config, field, allowed, remedy)


def read_modules(folder: Path) -> list[Module]:
    """Read the modules of a checkpoint, in order. Classes of other projects are a `ModelError`."""
    file = folder / MODULES
    modules = []
    for number, entry in enumerate(read_entries(file)):
        kind = entry["type"]
        if not kind.startswith(_OWNERS):
            raise refuse(file, f"[{number}].type", kind, "only modules of sentence-transformers and PyLate are known")
        own = folder / entry["path"]
        modules.append(_module(kind.rsplit(".", 1)[-1], own))
    return modules


def read_entries(file: Path) -> list[dict[str, Any]]:
    """Return the entries of modules.json, each with a `type` and a `path`; anything else is a `ModelError`."""
    entries = read_json(file)
    if not isinstance(entries, list) or not entries:
        raise ModelError(f"{file} holds no list of modules; fetch the checkpoint again")
    for number, entry in enumerate(entries):
        for field in ("type", "path"):
            value = entry.get(field) if isinstance(entry, dict) else None
            if not isinstance(value, str):
                raise refuse(file, f"[{number}].{field}", value, "expected a text; fetch the checkpoint again")
    return entries


def _module(kind: str, folder: Path) -> Module:
    files = sorted(folder.glob("sentence_*_config.json")) if kind == "Transformer" else [folder / "config.json"]
    file = files[0] if files else folder / TRANSFORMER
    return Module(kind, folder, file, read_object(file) if file.is_file() else {})


def expect_kinds(folder: Path, modules: Sequence[Module], allowed: Sequence[Sequence[str]], what: str) -> None:
    """Raise a `ModelError` for a list of modules that is none of the allowed ones."""
    found = [module.kind for module in modules]
    if found not in [list(kinds) for kinds in allowed]:
        known = " or ".join(", ".join(kinds) for kinds in allowed)
        raise refuse(folder / MODULES, "type", found, f"a {what} has {known}")


def check_transformer(module: Module) -> None:
    """Raise a `ModelError` for a setting of the backbone that a student cannot have."""
    for field in module.config:
        if field in _TRANSFORMER_READ:
            continue
        allowed = _TRANSFORMER_FIELDS.get(field, [{}, None])
        module.require(field, allowed, "a student reads plain texts and takes the last hidden states")


def longest_text(module: Module, tokenizer: PreTrainedTokenizerBase, config: Any) -> int:
    """Return the length in tokens at which texts are cut where nothing else is said: by the module, the tokenizer and the positions."""
    if module.config.get("max_seq_length") is not None:
        return whole_number(module.file, module.config, "max_seq_length", 1)
    positions = getattr(config, "max_position_embeddings", None)
    limit = min(tokenizer.model_max_length, positions if positions and positions > 0 else tokenizer.model_max_length)
    if limit > 1_000_000:
        raise ModelError(f"{module.file} has no max_seq_length, and the tokenizer knows no limit either; add one")
    return int(limit)


def read_projection(module: Module, hidden: int) -> Tensor:
    """Read the weight [D, H] of a linear projection without bias and activation."""
    for field, allowed in {
        "in_features": [hidden],
        "bias": [False],
        "activation_function": _IDENTITY,
        "use_residual": [False],
        "module_input_name": ["token_embeddings"],
        "module_output_name": ["token_embeddings", None],
    }.items():
        module.require(
            field, allowed, "a student projects token vectors by one matrix; train it anew from this backbone"
        )
    state = read_weights(module.folder)
    if set(state) != {"linear.weight"}:
        raise refuse(module.folder / "model.safetensors", "tensors", sorted(state), "expected 'linear.weight' alone")
    return state["linear.weight"].float()


def prompts_of(file: Path, config: Mapping[str, Any]) -> tuple[str, str]:
    """Return the texts that sentence-transformers 6 puts before queries and documents: the prompts `query` and `document`."""
    prompts = config.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(value, str | None) for value in prompts.values()):
        raise refuse(file, "prompts", prompts, "expected texts by name; correct the file")
    for other in ("passage", "corpus"):
        if prompts.get(other) and prompts.get("document") is None:
            remedy = "sentence-transformers 6 reads 'document' alone; rename the prompt"
            raise refuse(file, f"prompts.{other}", prompts[other], remedy)
    return prompts.get("query") or "", prompts.get("document") or ""


def marks(tokenizer: PreTrainedTokenizerBase, prompt: str) -> str | None:
    """Return the token that a prompt is, a blank after it aside; None where texts begin with other tokens after it."""
    texts = ("bee", ". bee", "Été")
    for token in dict.fromkeys((prompt, prompt.rstrip(" "))):
        known = token in tokenizer.get_vocab()
        if known and all(tokenizer.tokenize(prompt + text) == [token, *tokenizer.tokenize(text)] for text in texts):
            return token
    return None


def refuse_unknown(file: Path, config: Mapping[str, Any], known: AbstractSet[str]) -> None:
    """Raise a `ModelError` for settings of the whole that are not known, unless they are empty."""
    for field, value in config.items():
        if field not in known and value not in (None, False, {}, []):
            raise refuse(file, field, value, "it is not known how this changes scores; remove it if it does not")
