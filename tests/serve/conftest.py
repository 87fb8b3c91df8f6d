"""A real endpoint: Ray, Serve and HTTP, with a tiny random encoder."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from cluster.copying import upload
from cluster.storage import join, open_storage
from distill.encoders.checkpoints import load_late_interaction, save_encoder
from distill.encoders.late_interaction import EncoderSettings, LateInteractionEncoder
from distill.settings.serve import ServeSettings
from distill.tables import DOCUMENTS, VECTORS
from tests.serve.samples import TEXTS, Endpoint, document_of, free_port


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random student that knows the words of TEXTS."""
    pieces = [piece for _, _, title, text in TEXTS for piece in f"{title} {text}".split()]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]"]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys([*special, *pieces]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    torch.manual_seed(0)
    backbone = BertModel(
        BertConfig(
            vocab_size=len(vocabulary),
            max_position_embeddings=64,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
        )
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    settings = EncoderSettings(dim=16, query_tokens=12, passage_tokens=32, mask_punctuation=False)
    folder = tmp_path_factory.mktemp("checkpoint")
    save_encoder(LateInteractionEncoder.assemble(backbone, fast, settings), folder)
    return folder


@pytest.fixture(scope="session")
def index_folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of TEXTS, as the index stage writes it."""
    encoder = load_late_interaction(checkpoint)
    vectors = encoder.encode_passages([f"{title} {text}" for _, _, title, text in TEXTS])
    documents = [
        {
            "position": i,
            "passage_id": id_,
            "doc_id": document_of(id_),
            "lang": lang,
            "title": title,
            "text": text,
            "tokens": len(v),
            "truncated": id_ == "tags",
        }
        for i, ((id_, lang, title, text), v) in enumerate(zip(TEXTS, vectors, strict=True))
    ]
    rows = [{"position": i, "vectors": v.half().numpy().reshape(-1)} for i, v in enumerate(vectors)]
    folder = tmp_path_factory.mktemp("index")
    for name, table in {"documents": DOCUMENTS.from_rows(documents), "vectors": VECTORS.from_rows(rows)}.items():
        write(folder / name, table)
    return folder


def write(folder: Path, table: pa.Table) -> None:
    folder.mkdir()
    pq.write_table(table, folder / "00000.parquet")


@pytest.fixture(scope="session")
def endpoint(ray_session: None, s3_bucket: str, checkpoint: Path, index_folder: Path) -> Iterator[Endpoint]:
    """One endpoint for all tests, which only read. Its files are on S3: what works from there works from a local folder."""
    from serve.launch import start, stop

    locations = {name: join(s3_bucket, "serve", name) for name in ("checkpoint", "index")}
    for name, folder in {"checkpoint": checkpoint, "index": index_folder}.items():
        filesystem, path = open_storage(locations[name])
        upload(str(folder), filesystem, path)
    settings = ServeSettings(port=free_port(), max_k=100, max_query_characters=200, batch_wait_s=0.05)
    url = start(locations["checkpoint"], locations["index"], settings, timeout_s=90.0)
    yield Endpoint(url, locations["checkpoint"], locations["index"], settings)
    stop()
