"""Reference values of all-MiniLM-L6-v2 without training; all languages are measured in benchmarks/maml_reference.md."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

from distill.encoders.checkpoints import load_backbone, save_encoder
from distill.encoders.single_vector import SingleVectorEncoder, SingleVectorSettings
from distill.meta.evaluate.stage import evaluate
from distill.meta.settings import MetaEvaluateSettings, QuestionFiles, SentencePairFiles
from distill.meta.sources.folds import Fold
from distill.meta.sources.stage import ingest
from distill.models.locate import BUNDLED_TEACHER, locate
from tests.workspaces import LocalWorkspace

XQUAD_R, STSB = os.environ.get("POLYRAY_XQUAD_R"), os.environ.get("POLYRAY_STSB")


def start(root: Path, tokens: int) -> LocalWorkspace:
    backbone, tokenizer = load_backbone(locate(BUNDLED_TEACHER))
    settings = SingleVectorSettings(query_tokens=tokens, passage_tokens=tokens)
    save_encoder(SingleVectorEncoder(backbone, tokenizer, settings), root / "meta_start" / "start")
    return LocalWorkspace(root, "meta_start")


@torch.inference_mode()
def plainly_encoded(texts: Sequence[str], tokens: int) -> Tensor:
    """Mean pooling and unit length, one text at a time."""
    tokenizer, model = (kind.from_pretrained(locate(BUNDLED_TEACHER)) for kind in (AutoTokenizer, AutoModel))
    found = []
    for text in texts:
        batch = tokenizer(text, truncation=True, max_length=tokens, return_tensors="pt")
        found.append(model.eval()(**batch).last_hidden_state[0].mean(dim=0))
    return functional.normalize(torch.stack(found), dim=-1)


@pytest.mark.skipif(
    XQUAD_R is None, reason="set POLYRAY_XQUAD_R to a folder with XQuAD-R as queries, candidates and qrels"
)
def test_precision_on_a_part_of_xquad_r(tmp_path: Path) -> None:
    """German questions of the test articles over German candidates: AP@20 by a plain loop, of every fifth."""
    sources = LocalWorkspace(tmp_path, "meta_sources")
    names = {"questions": "queries.jsonl.gz", "candidates": "candidates.jsonl.gz", "qrels": "qrels.multilingual.gz"}
    files = {field: f"{XQUAD_R}/{name}" for field, name in names.items()}
    ingest(sources, QuestionFiles.model_validate({**files, "split_field": "split_article"}), 0.0)
    assert len(sources.output("questions")) == 13_090
    assert len(sources.output("answers")) == 13_014
    workspace = LocalWorkspace(tmp_path, "evaluate", {"meta_sources": sources, "meta_start": start(tmp_path, 64)})
    evaluate(
        workspace,
        MetaEvaluateSettings(languages=("de",)),
        "retrieval",
        Fold(0, None, 0),
        "meta_sources",
        "meta_start",
        "start",
    )
    rows = workspace.output("question_precision")
    found = dict(zip(rows["question_id"].to_pylist(), rows["value"].to_pylist(), strict=True))

    tables = {}
    for name in ("questions", "answers"):
        table = sources.output(name)
        tables[name] = table.filter(
            pc.and_(pc.equal(table["lang"], "de"), pc.equal(table["split"], "test"))
        ).to_pylist()
    answered: dict[str, set[str]] = {}
    for row in sources.output("answered").to_pylist():
        answered.setdefault(row["xling_id"], set()).add(row["answer_id"])
    assert len(found) == len(tables["questions"]) == 318
    tables["questions"] = tables["questions"][::5]
    asked, given = (plainly_encoded([row["text"] for row in tables[name]], 64) for name in ("questions", "answers"))
    ids = [row["answer_id"] for row in tables["answers"]]
    for row, scores in zip(tables["questions"], asked @ given.T, strict=True):
        relevant = answered[row["xling_id"]] & set(ids)
        ranked = [ids[i] for i in scores.argsort(descending=True)[:20]]
        hits, total = 0, 0.0
        for rank, answer in enumerate(ranked, start=1):
            if answer in relevant:
                hits += 1
                total += hits / rank
        assert found[row["question_id"]] == pytest.approx(total / min(len(relevant), 20)), row["question_id"]


@pytest.mark.skipif(
    STSB is None, reason="set POLYRAY_STSB to a folder with STSb multi MT as train, dev and test .jsonl.gz"
)
def test_correlations_on_stsb(tmp_path: Path) -> None:
    """The values that this encoder is known to have: English 0.827, German 0.629, English with German 0.297."""
    sources = LocalWorkspace(tmp_path, "meta_sources")
    files = {split: f"{STSB}/{split}.jsonl.gz" for split in ("train", "dev", "test")}
    ingest(sources, SentencePairFiles.model_validate(files), 0.0)
    workspace = LocalWorkspace(tmp_path, "evaluate", {"meta_sources": sources, "meta_start": start(tmp_path, 64)})
    settings = MetaEvaluateSettings(languages=("en", "de"))
    evaluate(workspace, settings, "similarity", Fold(0, None, 0), "meta_sources", "meta_start", "start")
    rows = workspace.output("pair_similarity")
    for first, second, expected in (("en", "en", 0.827), ("de", "de", 0.629), ("en", "de", 0.297)):
        mine = rows.filter(pc.and_(pc.equal(rows["first_lang"], first), pc.equal(rows["second_lang"], second)))
        assert len(mine) == 1379
        values, scores = (np.asarray(mine[name]) for name in ("value", "score"))
        assert stats.pearsonr(values, scores)[0] == pytest.approx(expected, abs=0.0006)
