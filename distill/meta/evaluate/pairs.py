"""Sentence pairs compared across languages."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional

from cluster.workspace import Shard, Workspace, shard_rows
from distill.encoders.checkpoints.fetch import fetch_encoder
from distill.meta.settings import MetaEvaluateSettings
from distill.meta.tasks.vectors import device_of
from distill.numerics.blocks import filled, maxsim_of_each
from distill.tables import PAIR_SIMILARITY


def compare_pairs(workspace: Workspace, settings: MetaEvaluateSettings, checkpoint: str, pairs: pa.Table) -> None:
    """Write `pair_similarity` of SENTENCE_PAIRS, which are sorted by pair and language, by the encoder in the folder `checkpoint`."""
    shards = _pair_shards(pairs, settings.texts_per_shard)
    arguments = {"pairs": pairs, "filesystem": workspace.filesystem, "checkpoint": checkpoint, "settings": settings}
    workspace.map_shards(shards, PairWorker, arguments, settings.pool, "pairs")


def _pair_shards(pairs: pa.Table, size: int) -> list[Shard]:
    """Return shards of `size` texts or a few more: the versions of a pair stay together. The rows are sorted by pair."""
    ids = np.asarray(pairs["pair_id"].to_pylist(), dtype=object)
    ends = [*(np.flatnonzero(ids[1:] != ids[:-1]) + 1).tolist(), len(ids)]
    shards, start = [], 0
    for end in ends:
        if 2 * (end - start) >= size or end == len(ids):
            shards.append(Shard(len(shards), {"start": start, "stop": end}))
            start = end
    return shards


class PairWorker:
    """The actor that compares the sentences of a range of pairs across languages."""

    def __init__(
        self, pairs: pa.Table, filesystem: pafs.FileSystem, checkpoint: str, settings: MetaEvaluateSettings
    ) -> None:
        self._pairs = pairs
        self._tokens = settings.tokens_per_batch
        self._encoder = fetch_encoder(filesystem, checkpoint, device_of(settings))

    def __call__(self, shard: Shard) -> dict[str, pa.Table]:
        """Return the similarity of pairs start to stop, in every ordered pair of the languages that each has."""
        part = shard_rows(self._pairs, shard)
        texts = [*part["first"].to_pylist(), *part["second"].to_pylist()]
        vectors = self._encoder.encode_passages(texts, self._tokens)
        firsts, seconds = vectors[: len(part)], vectors[len(part) :]
        rows = part.select(["pair_id", "lang", "score"]).to_pylist()
        positions: dict[str, list[int]] = {}
        for position, row in enumerate(rows):
            positions.setdefault(row["pair_id"], []).append(position)
        compared = []
        for pair_id, versions in positions.items():
            values = similarities([firsts[i] for i in versions], [seconds[i] for i in versions])
            for (one, other), value in zip(product(versions, versions), values.ravel().tolist(), strict=True):
                langs = {"first_lang": rows[one]["lang"], "second_lang": rows[other]["lang"]}
                compared.append({"pair_id": pair_id, **langs, "value": value, "score": rows[one]["score"]})
        return {"pair_similarity": PAIR_SIMILARITY.from_rows(compared)}


def similarities(
    firsts: Sequence[Float[Tensor, "_ D"]], seconds: Sequence[Float[Tensor, "_ D"]]
) -> Float64[np.ndarray, "M N"]:
    """Return the similarity of each of M texts to each of N, from -1 to 1: of one vector each, their cosine.

    Of late interaction it is MaxSim divided by the number of the first text's vectors. A text without a vector (of punctuation only) has 0.
    """
    ones, others = ([functional.normalize(one.double(), dim=-1) for one in side] for side in (firsts, seconds))
    counts = torch.tensor([len(one) for one in ones])
    values = maxsim_of_each(filled(ones), others) / counts.clamp(min=1)[:, None]
    return values.masked_fill(values.isneginf(), 0.0).numpy()
