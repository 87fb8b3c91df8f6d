"""The student: a late-interaction encoder (ColBERT, arXiv 2004.12832; ColBERT-X, arXiv 2201.08471) over any Hugging Face backbone.

Shapes: B queries or passages, N passages of a query, T query tokens, L passage tokens, D the size of a token vector, H the backbone's
width. A text's vectors are the backbone's last hidden states, projected and normalised; a score is MaxSim.

Checkpoints have the HF_ColBERT layout that Stanford ColBERT and PLAID-X write and that PyLate, sentence-transformers and Lightning IR
read: the backbone's weights under its usual prefix, `linear.weight`, and `artifact.metadata`.
"""

import json
import string
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow.fs as pafs
import torch
from jaxtyping import Bool, Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from distill.batching import token_budget_batches
from distill.models import ModelError

QUERY_MARKER = "[unused0]"
PASSAGE_MARKER = "[unused1]"
_METADATA = "artifact.metadata"


@dataclass(frozen=True)
class EncoderSettings:
    """How texts become tokens, and tokens vectors. Stored in the checkpoint, because other values give other scores.

    Attributes:
        dim: size of a token vector.
        query_tokens: every query has this many vectors: longer ones are truncated, shorter ones padded.
        passage_tokens: longest passage.
        marker_mode: markers inserted at index 1 (colbert-ai, PyLate), or written over index 1 after a '. ' prefix (PLAID-X). For XLM-R
            the two differ: its tokenizer makes two pieces of '. ', and overwriting leaves the full stop at index 2.
        mask_punctuation: whether punctuation tokens of passages take part in the score.
        attend_to_mask_tokens: whether attention sees the [MASK] padding of queries.
        query_expansion: whether queries are padded with [MASK] to `query_tokens` and all of those vectors enter the score (ColBERT), or
            only the query's own tokens do. Without it padding has zero vectors, each of which adds 0 to a score.
    """

    dim: int = 128
    query_tokens: int = 32
    passage_tokens: int = 220
    marker_mode: Literal["insert", "overwrite"] = "insert"
    mask_punctuation: bool = True
    attend_to_mask_tokens: bool = False
    query_expansion: bool = True


class TokenBatch(NamedTuple):
    """Padded token ids, what attention sees, and which positions take part in the score."""

    ids: Int[Tensor, "B T"]
    attention: Int[Tensor, "B T"]
    keep: Bool[Tensor, "B T"]


def maxsim(
    queries: Float[Tensor, "B T D"], passages: Float[Tensor, "B N L D"], keep: Bool[Tensor, "B N L"]
) -> Float[Tensor, "B N"]:
    r"""Late interaction of each query with its own N passages: :math:`\sum_t \max_{l \in keep} \langle q_t, p_l \rangle`.

    Computed in float32. Cost: B*N*T*L*D multiply-adds.
    """
    # Autocast would make the product bfloat16, in which near ties tie.
    with torch.autocast(queries.device.type, enabled=False):
        similarity = torch.einsum("btd,bnld->bntl", queries.float(), passages.float())
    similarity = similarity.masked_fill(~keep[:, :, None, :], torch.finfo(torch.float32).min)
    return similarity.amax(dim=-1).sum(dim=-1)


class LateInteractionEncoder(nn.Module):
    """A backbone, a projection and a tokenizer.

    Args:
        backbone: an encoder whose output has `last_hidden_state`.
        projection: a linear layer H -> D without bias.
        tokenizer: a fast tokenizer that knows both markers and has pad and mask tokens.
        settings: how texts become vectors.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        projection: nn.Linear,
        tokenizer: PreTrainedTokenizerBase,
        settings: EncoderSettings,
    ) -> None:
        super().__init__()
        if projection.bias is not None or projection.out_features != settings.dim:
            message = f"projection must be without bias and give dim {settings.dim}, found {projection}"
            raise ModelError(message)
        self.backbone = backbone
        self.projection = projection
        self.tokenizer = tokenizer
        self.settings = settings
        for name, parameter in backbone.named_parameters():
            if name.startswith("pooler."):  # unused: it would have no gradient, which DDP refuses
                parameter.requires_grad = False
        self._query_marker = _token_id(tokenizer, QUERY_MARKER)
        self._passage_marker = _token_id(tokenizer, PASSAGE_MARKER)
        self._mask = _required(tokenizer.mask_token_id, "mask token")
        self._pad = _required(tokenizer.pad_token_id, "pad token")
        # The first piece of each mark, as ColBERT and PLAID-X take it: with XLM-R that is the bare word-start piece, and '.' is kept.
        pieces = tokenizer(list(string.punctuation), add_special_tokens=False)["input_ids"]
        self._skip = torch.tensor(sorted({piece[0] for piece in pieces if piece}), dtype=torch.long)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.projection.weight.device

    def tokenize_queries(self, texts: Sequence[str]) -> TokenBatch:
        """Token ids of queries, every row `query_tokens` long.

        Beyond the text come [MASK] tokens (query augmentation, ColBERT section 3.2) and all positions take part in the score; without
        query expansion comes padding, which takes no part in it and which attention never sees.
        """
        rows = self._marked(texts, self._query_marker, self.settings.query_tokens)
        length = self.settings.query_tokens
        filler = self._mask if self.settings.query_expansion else self._pad
        ids = torch.tensor([row + [filler] * (length - len(row)) for row in rows], dtype=torch.long)
        real = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], dtype=torch.long)
        if not self.settings.query_expansion:
            return TokenBatch(ids, real, real.bool())
        attention = torch.ones_like(real) if self.settings.attend_to_mask_tokens else real
        return TokenBatch(ids, attention, torch.ones_like(ids, dtype=torch.bool))

    def tokenize_passages(self, texts: Sequence[str]) -> TokenBatch:
        """Token ids of passages, padded to the longest; padding and (by setting) punctuation take no part in the score."""
        return self._pad_passages(self._marked(texts, self._passage_marker, self.settings.passage_tokens))

    def forward(
        self, ids: Int[Tensor, "B T"], attention: Int[Tensor, "B T"], keep: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T D"]:
        """Token vectors of unit length; positions not kept are zero. Normalised in float32."""
        hidden = self.backbone(input_ids=ids, attention_mask=attention).last_hidden_state
        vectors = self.projection(hidden).float() * keep.unsqueeze(-1)
        return functional.normalize(vectors, dim=-1)

    @torch.inference_mode()
    def encode_queries(self, texts: Sequence[str]) -> Float[Tensor, "Q T D"]:
        """Vectors of queries, in order, on the CPU. One batch: call it with as many queries as fit in memory."""
        was_training = self.training
        self.eval()
        batch = self.tokenize_queries(texts)
        vectors = self(*(part.to(self.device) for part in batch)).cpu()
        self.train(was_training)
        return vectors

    @torch.inference_mode()
    def encode_passages(self, texts: Sequence[str], tokens_per_batch: int = 16_384) -> list[Float[Tensor, "n D"]]:
        """The kept vectors of each passage, in order, on the CPU. Batches hold at most `tokens_per_batch` padded tokens."""
        was_training = self.training
        self.eval()
        rows = self._marked(texts, self._passage_marker, self.settings.passage_tokens)
        encoded: list[Tensor] = [torch.empty(0)] * len(rows)
        for batch in token_budget_batches([len(row) for row in rows], tokens_per_batch):
            tokens = self._pad_passages([rows[i] for i in batch])
            vectors = self(*(part.to(self.device) for part in tokens)).cpu()
            for i, vector, keep in zip(batch, vectors, tokens.keep, strict=True):
                encoded[i] = vector[keep]
        self.train(was_training)
        return encoded

    def _marked(self, texts: Sequence[str], marker: int, length: int) -> list[list[int]]:
        if not texts:
            return []
        if self.settings.marker_mode == "overwrite":
            rows = self.tokenizer([f". {text}" for text in texts], truncation=True, max_length=length)["input_ids"]
            return [[row[0], marker, *row[2:]] for row in rows]
        rows = self.tokenizer(list(texts), truncation=True, max_length=length - 1)["input_ids"]
        return [[row[0], marker, *row[1:]] for row in rows]

    def _pad_passages(self, rows: Sequence[list[int]]) -> TokenBatch:
        length = max(len(row) for row in rows)
        ids = torch.tensor([row + [self._pad] * (length - len(row)) for row in rows], dtype=torch.long)
        attention = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], dtype=torch.long)
        keep = attention.bool()
        if self.settings.mask_punctuation:
            keep = keep & ~torch.isin(ids, self._skip)
        return TokenBatch(ids, attention, keep)

    # --- checkpoints -----------------------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path, metadata: Mapping[str, Any] | None = None) -> None:
        """Write the HF_ColBERT layout: config.json, model.safetensors (float32), the tokenizer, and artifact.metadata.

        `metadata` (training facts) joins artifact.metadata; readers ignore keys that they do not know.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        prefix = self.backbone.base_model_prefix
        state = {f"{prefix}.{name}": value for name, value in self.backbone.state_dict().items()}
        state["linear.weight"] = self.projection.weight
        # Tied weights share storage, which safetensors refuses: every tensor is written out.
        save_file(
            {k: v.detach().cpu().contiguous().clone() for k, v in state.items()},
            folder / "model.safetensors",
            {"format": "pt"},
        )
        config = self.backbone.config.to_dict() | {"architectures": ["HF_ColBERT"], "dtype": "float32"}
        _write_json(folder / "config.json", config)
        self.tokenizer.save_pretrained(folder)
        _make_tokenizer_portable(folder / "tokenizer_config.json")
        _write_json(
            folder / _METADATA, _to_metadata(self.settings) | {"model_name": str(folder.name)} | dict(metadata or {})
        )

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> "LateInteractionEncoder":
        """Read a checkpoint in the HF_ColBERT layout, in float32, in evaluation mode.

        A folder without artifact.metadata, without `linear.weight`, or with pickled weights only is a `ModelError`.
        """
        folder = Path(folder)
        if not (folder / _METADATA).is_file():
            message = f"'{folder}' is not a late-interaction checkpoint: it has no {_METADATA}"
            raise ModelError(message)
        settings = _from_metadata(json.loads((folder / _METADATA).read_text(encoding="utf-8")))
        state = read_weights(folder)
        if "linear.weight" not in state:
            message = f"'{folder}' is not a late-interaction checkpoint: its weights have no 'linear.weight'"
            raise ModelError(message)
        weight = state.pop("linear.weight").float()
        backbone = backbone_from_state(AutoConfig.from_pretrained(folder), state, str(folder))
        projection = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        projection.weight.data.copy_(weight)
        encoder = cls(backbone, projection, AutoTokenizer.from_pretrained(folder), settings)
        return encoder.to(device).eval()

    @classmethod
    def fetch(
        cls, filesystem: pafs.FileSystem, folder: str, device: str | torch.device = "cpu"
    ) -> "LateInteractionEncoder":
        """`load` a checkpoint that lies on any file system, by way of a temporary local copy."""
        with tempfile.TemporaryDirectory() as local:
            pafs.copy_files(folder, local, source_filesystem=filesystem, destination_filesystem=pafs.LocalFileSystem())
            return cls.load(local, device)

    @classmethod
    def from_backbone(
        cls, model: str, settings: EncoderSettings, revision: str | None = None
    ) -> "LateInteractionEncoder":
        """Put a new projection on any Hugging Face encoder; markers that its tokenizer lacks are added.

        New weights come from torch's global generator: seed it first. `model` is a local folder or a name on the hub.
        """
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision)
        backbone = AutoModel.from_pretrained(model, revision=revision, use_safetensors=True, dtype=torch.float32)
        return cls.assemble(backbone, tokenizer, settings)

    @classmethod
    def assemble(
        cls, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: EncoderSettings
    ) -> "LateInteractionEncoder":
        """Join a backbone, its tokenizer and a new projection."""
        missing = [marker for marker in (QUERY_MARKER, PASSAGE_MARKER) if marker not in tokenizer.get_vocab()]
        if missing:
            tokenizer.add_special_tokens({"additional_special_tokens": missing})
            backbone.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        projection = nn.Linear(backbone.config.hidden_size, settings.dim, bias=False)
        nn.init.normal_(projection.weight, std=getattr(backbone.config, "initializer_range", 0.02))
        return cls(backbone, projection, tokenizer, settings)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder's safetensors files. Pickled weights are refused: loading them can run code."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        message = f"'{folder}' has no .safetensors weights; convert pickled ones with transformers' save_pretrained"
        raise ModelError(message)
    state: dict[str, Tensor] = {}
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            state |= {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    return state


def backbone_from_state(config: Any, state: Mapping[str, Tensor], source: str) -> PreTrainedModel:
    """A backbone with the weights of `state`, whose names carry the architecture's prefix (`bert.`, `roberta.` ...) or none."""
    backbone = AutoModel.from_config(config, dtype=torch.float32)
    prefix = f"{backbone.base_model_prefix}."
    own = {
        name.removeprefix(prefix): value.float() if value.is_floating_point() else value
        for name, value in state.items()
    }
    result = backbone.load_state_dict(own, strict=False)
    missing = [name for name in result.missing_keys if not name.startswith("pooler.")]
    if missing:
        message = f"'{source}' lacks {len(missing)} weights of {type(backbone).__name__}, among them {missing[:3]}"
        raise ModelError(message)
    return backbone


def _token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    found = tokenizer.get_vocab().get(token)
    return _required(found, f"token {token}")


def _required(value: Any, what: str) -> int:
    if not isinstance(value, int):
        message = f"the tokenizer has no {what}; a late-interaction student needs one"
        raise ModelError(message)
    return value


def _to_metadata(settings: EncoderSettings) -> dict[str, Any]:
    return {
        "query_token_id": QUERY_MARKER,
        "doc_token_id": PASSAGE_MARKER,
        "query_token": "[Q]",
        "doc_token": "[D]",
        "dim": settings.dim,
        "query_maxlen": settings.query_tokens,
        "doc_maxlen": settings.passage_tokens,
        "mask_punctuation": settings.mask_punctuation,
        "attend_to_mask_tokens": settings.attend_to_mask_tokens,
        "query_expansion": settings.query_expansion,
        "similarity": "cosine",
        "interaction": "colbert",
        "marker_mode": settings.marker_mode,
        "meta": {"version": "colbert-v0.4"},
    }


def _from_metadata(metadata: Mapping[str, Any]) -> EncoderSettings:
    similarity = metadata.get("similarity", "cosine")
    if similarity != "cosine":
        message = f"{_METADATA} says similarity '{similarity}'; only 'cosine' is supported"
        raise ModelError(message)
    # Checkpoints by others do not say how they insert markers; those of PLAID-X, which alone trains XLM-R this way, overwrite.
    default = asdict(EncoderSettings())
    return EncoderSettings(
        dim=metadata.get("dim", default["dim"]),
        query_tokens=metadata.get("query_maxlen", default["query_tokens"]),
        passage_tokens=metadata.get("doc_maxlen", default["passage_tokens"]),
        marker_mode=metadata.get("marker_mode", "overwrite"),
        mask_punctuation=metadata.get("mask_punctuation", default["mask_punctuation"]),
        attend_to_mask_tokens=metadata.get("attend_to_mask_tokens", default["attend_to_mask_tokens"]),
        query_expansion=metadata.get("query_expansion", default["query_expansion"]),
    )


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def _make_tokenizer_portable(file: Path) -> None:
    """Name the generic tokenizer class as transformers 4 does, so that PLAID-X and PyLate can load what transformers 5 wrote."""
    config = json.loads(file.read_text(encoding="utf-8"))
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        _write_json(file, config)
