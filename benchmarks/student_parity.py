"""Late-interaction checkpoints must give the same scores here as in the projects that read and write them.

    python benchmarks/student_parity.py --pylate PYLATE/bin/python --plaidx PLAIDX/bin/python

PyLate and PLAID-X need other releases of transformers, so each is given as the interpreter of an environment of its own; without one, its
rows are left out. There `student_parity_pylate.py` and `student_parity_plaidx.py` run, which import nothing from here. The models are an
XLM-R and a BERT of two layers of 64 with random weights and tokenizers made of the bundled corpus, whose texts in seven languages are
scored: 24 queries with 42 passages each. Ends with 1 where a difference of scores is above 1e-4. Two or three minutes.
"""

import argparse
import importlib.metadata
import json
import os
import string
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

sys.path.insert(0, str(Path(__file__).parents[1]))

from distill.encoders.checkpoints import load_backbone, load_late_interaction, save_encoder
from distill.encoders.checkpoints.weights import write_backbone
from distill.encoders.late_interaction import EncoderSettings, LateInteractionEncoder
from distill.encoders.start import train_tokenizer
from distill.sources import corpus

HERE = Path(__file__).parent
LIMIT = 1e-4
SETTINGS = EncoderSettings(dim=32, query_tokens=32, passage_tokens=96)
PLAIDX = replace(SETTINGS, marker_mode="overwrite", skip_list="first_piece")
PYLATE = replace(SETTINGS, marker_mode="insert", skip_list="token")
QUERIES = [row["text"] for _, row in corpus.queries()][::55][:24]
PASSAGES = [f"{row['title']}. {row['text']}" for _, row in corpus.passages()][::41][:42]


@dataclass(frozen=True)
class Result:
    """Results of an implementation with a checkpoint: ids of padded queries, vectors, kept vectors of passages, scores of all pairs."""

    query_ids: np.ndarray
    queries: np.ndarray
    lengths: np.ndarray
    passages: np.ndarray
    scores: np.ndarray


def ours(folder: Path) -> Result:
    encoder = load_late_interaction(folder)
    queries = encoder.encode_queries(QUERIES).numpy()
    passages = [one.numpy() for one in encoder.encode_passages(PASSAGES)]
    # As in the other projects a passage without a vector left would have no score; there is none.
    scores = np.stack([[(query @ passage.T).max(1).sum() for passage in passages] for query in queries])
    ids = encoder.tokenize_queries(QUERIES).ids.numpy()
    return Result(ids, queries, np.array([len(one) for one in passages]), np.concatenate(passages), scores)


def theirs(python: str, worker: str, folder: Path, save: Path | None = None, **settings: Any) -> Result:
    """Run the same in another environment, which may save what it loaded."""
    with tempfile.TemporaryDirectory() as scratch:
        job = Path(scratch) / "job.json"
        job.write_text(json.dumps({
            "checkpoint": str(folder), "save": str(save) if save else None, "settings": settings, "queries": QUERIES,
            "passages": PASSAGES, "out": str(Path(scratch) / "out.npz"),
        }))  # fmt: skip
        offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(
            [python, str(HERE / worker), str(job)],
            capture_output=True,
            check=False,
            text=True,
            env=os.environ | offline,
            cwd=scratch,
            timeout=600,
        )
        if done.returncode:
            raise SystemExit(f"{worker} failed with {python}:\n{done.stderr[-3000:]}")
        with np.load(Path(scratch) / "out.npz") as arrays:
            return Result(**{name: arrays[name] for name in arrays.files})


def unigrams(texts: list[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer as XLM-R's: unigrams with a word-start piece, which makes two pieces of '. '."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(vocab_size=4000, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    state = json.loads(tokenizer.to_str())
    pieces = [entry for entry in state["model"]["vocab"] if entry[0] not in {f"▁{mark}" for mark in string.punctuation}]
    known = {piece for piece, _ in pieces}
    pieces += [(mark, -12.0) for mark in [*string.punctuation, "▁"] if mark not in known]
    tokenizer.model = models.Unigram([tuple(entry) for entry in pieces], unk_id=3)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>", pad_token="<pad>",
        unk_token="<unk>", mask_token="<mask>", model_max_length=512,
    )  # fmt: skip


def write_base(folder: Path, family: str) -> Path:
    """Write a plain Hugging Face model with random weights, large enough to tell tokens apart."""
    texts = [row["text"] for _, row in corpus.passages()]
    tokenizer = unigrams(texts) if family == "xlmr" else train_tokenizer([*texts, string.punctuation], 4000)
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128,
        "pad_token_id": tokenizer.pad_token_id, "initializer_range": 0.15,
    }  # fmt: skip
    torch.manual_seed(1)
    xlmr = family == "xlmr"
    model = (
        XLMRobertaModel(XLMRobertaConfig(**sizes, max_position_embeddings=514))
        if xlmr
        else BertModel(BertConfig(**sizes))
    )
    folder.mkdir(parents=True)
    write_backbone(model, tokenizer, folder, {}, type(model).__name__, "")
    return folder


def student(base: Path, folder: Path, settings: EncoderSettings) -> Path:
    torch.manual_seed(2)
    backbone, tokenizer = load_backbone(base)
    save_encoder(LateInteractionEncoder.assemble(backbone, tokenizer, settings), folder)
    return folder


def plaidx_rows(python: str, base: Path, folder: Path) -> Iterator[tuple[str, Result, Result, bool]]:
    settings = {
        "dim": 32, "query_maxlen": 32, "doc_maxlen": 96, "mask_punctuation": True, "attend_to_mask_tokens": False,
        "similarity": "cosine",
    }  # fmt: skip
    written = folder / "plaidx"
    there = theirs(python, "student_parity_plaidx.py", base, written, **settings)
    yield "written by PLAID-X, read here", there, ours(written), True
    own = student(base, folder / "ours_plaidx", PLAIDX)
    yield "written here (overwrite), read by PLAID-X", theirs(python, "student_parity_plaidx.py", own), ours(own), True


def pylate_rows(python: str, base: Path, folder: Path) -> Iterator[tuple[str, Result, Result, bool]]:
    worker = "student_parity_pylate.py"
    own = student(base, folder / "ours_pylate", PYLATE)
    again = folder / "pylate_again"
    yield "written here (insert), read by PyLate", theirs(python, worker, own, again), ours(own), True
    yield "the same, saved again by PyLate, read here", theirs(python, worker, again), ours(again), True
    written = folder / "pylate"
    settings = {"embedding_size": 32, "query_length": 24, "document_length": 80, "attend_to_expansion_tokens": True}
    yield "written by PyLate, read here", theirs(python, worker, base, written, **settings), ours(written), True
    own = student(base, folder / "ours_overwrite", PLAIDX)
    yield "written here (overwrite), read by PyLate", theirs(python, worker, own), ours(own), False


def row(family: str, name: str, there: Result, here: Result) -> tuple[str, float]:
    """Return a line of the table and the largest difference of scores."""
    ids = (
        int((there.query_ids != here.query_ids).any(1).sum())
        if there.query_ids.shape == here.query_ids.shape
        else len(QUERIES)
    )
    kept = int((there.lengths != here.lengths).sum())
    worst = float(np.abs(there.scores - here.scores).max())
    vectors = "–"
    if not ids and not kept:
        pairs = (there.queries, here.queries), (there.passages, here.passages)
        vectors = f"{max(float(np.abs(a - b).max()) for a, b in pairs):.1e}"
    return f"| {family} | {name} | {ids} | {kept} | {vectors} | {worst:.1e} |", worst


def version(python: str, names: str) -> str:
    code = (
        f"from importlib.metadata import version; print(', '.join(f'{{n}} {{version(n)}}' for n in {names.split()!r}))"
    )
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pylate", metavar="PYTHON", help="interpreter of an environment with PyLate")
    parser.add_argument(
        "--plaidx", metavar="PYTHON", help="interpreter of an environment with PLAID-X and transformers 4"
    )
    options = parser.parse_args()
    if not options.pylate and not options.plaidx:
        parser.error("give --pylate, --plaidx or both")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    print(
        f"here: torch {torch.__version__}, transformers {transformers.__version__}, tokenizers {importlib.metadata.version('tokenizers')}"
    )
    peers = [(options.plaidx, "PLAID-X", plaidx_rows), (options.pylate, "pylate", pylate_rows)]
    for python, name, _ in peers:
        if python:
            print(f"there: {version(python, f'{name} torch transformers tokenizers')}")
    failed = False
    print(
        "\n| model | checkpoint | queries with other ids | passages with other lengths | vectors | scores |\n|---|---|---|---|---|---|"
    )
    for family in ("bert", "xlmr"):
        with tempfile.TemporaryDirectory() as scratch:
            base = write_base(Path(scratch) / "base", family)
            pieces = (
                len(load_backbone(base)[1].tokenize(". "))
                if family == "bert"
                else len(load_backbone(base)[1].tokenize(". a")) - 1
            )
            for python, _, rows in peers:
                for name, there, here, must in rows(python, base, Path(scratch)) if python else ():
                    line, worst = row(f"{family} ('. ' is {pieces})", name, there, here)
                    failed |= must and worst > LIMIT
                    print(line, flush=True)
            deviation = float(ours(Path(scratch) / ("ours_plaidx" if options.plaidx else "ours_pylate")).scores.std())
            print(f"| {family} | standard deviation of the scores | | | | {deviation:.2f} |")
    if failed:
        raise SystemExit(f"a difference of scores is above {LIMIT:g}")


if __name__ == "__main__":
    main()
