"""The cost of translation, and the quality of the engines there are.

    python benchmarks/translation.py                # engines and the whole stage on one random Marian model, about ten minutes
    python benchmarks/translation.py --quality      # BLEU and chrF on TICO-19, whose segments.jsonl.gz POLYRAY_TICO19 names

The model: Marian with 6 + 6 layers, d = 512, a vocabulary of 32,000 (61 M parameters), random weights, whose end token is forbidden so that
every translation has the same number of tokens. One thread. Tokens are those of translations, CPU time that of the process.

Quality: the sources themselves ("copy"), Apertium's English-Spanish rules if `apertium` is installed with `apertium-eng-spa`, and a Marian
model of 5 M parameters trained here for `--train-seconds` CPU-seconds on the first 2,500 segments. The other 571 are translated. Such a
model says how much the engines and precisions differ, not how well one can translate.
"""

import argparse
import gzip
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.exact_search import cpu_model
from distill.sources import corpus
from distill.translate.engines import Engines, load_engine
from distill.translate.engines.conversion import vocabulary
from distill.translate.engines.interface import TranslationEngine
from distill.translate.passages import PassageTranslator, SourcePassage
from distill.translate.report import quality
from distill.translate.sentences import split
from distill.translate.settings import (
    CommandTranslator,
    CTranslate2Translator,
    TransformersTranslator,
    TranslateSettings,
)
from tests.distill.translate.checkpoints import save_marian

TOKENS = 32
SENTENCES = 64
HELD_OUT = 571


def cpu_seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def big_marian(folder: Path) -> str:
    """61 M parameters. Its vocabulary is filled up with pieces that no text has; its end token never wins."""
    shape = {
        "d_model": 512, "encoder_layers": 6, "decoder_layers": 6, "encoder_attention_heads": 8, "decoder_attention_heads": 8,
        "encoder_ffn_dim": 2048, "decoder_ffn_dim": 2048, "max_position_embeddings": 512, "init_std": 0.05,
    }  # fmt: skip
    save_marian(folder, filler=32_000, size=8000, **shape)
    model = transformers.MarianMTModel.from_pretrained(folder)
    model.final_logits_bias[0, model.config.eos_token_id] = -1e4
    model.save_pretrained(folder)
    return str(folder)


def speed(root: Path) -> None:
    model = big_marian(root / "marian")
    english = [row["text"] for _, row in corpus.passages() if row["lang"] == "en"]
    sentences = list(dict.fromkeys(s for text in english for s in split(text, "en").sentences))[:SENTENCES]
    shared: dict[str, Any] = {
        "model": model,
        "length_factor": 0.0001,
        "length_offset": TOKENS,
        "tokens_per_batch": 2048,
    }
    made = {
        "transformers": TransformersTranslator(**shared),
        "CTranslate2 float32": CTranslate2Translator(**shared, quantization="float32", cache=str(root)),
        "CTranslate2 int8": CTranslate2Translator(**shared, cache=str(root)),
        "transformers, beam 4": TransformersTranslator(**shared, beam_size=4),
        "CTranslate2 int8, beam 4": CTranslate2Translator(**shared, beam_size=4, cache=str(root)),
    }
    works: dict[str, Callable[[], Any]] = {
        "plain generate, 16 sentences as they come": plain_generate(model, sentences)
    }
    for name, settings in made.items():
        engine = load_engine(settings, "en", "de", "cpu")
        engine.translate(sentences[:4], "en", "de")
        works[name] = lambda e=engine: e.translate(sentences, "en", "de")
    best = dict.fromkeys(works, float("inf"))
    # In turns, so that what else the machine does falls on all of them.
    for turn in range(3):
        for name, work in works.items():
            if turn == 0 or "beam" not in name:
                best[name] = min(best[name], cpu_seconds(work))
    print("| engine | tokens per CPU-second |\n|---|---|")
    for name, seconds in best.items():
        print(f"| {name} | {SENTENCES * TOKENS / seconds:.0f} |", flush=True)
    stage(root, shared, english)


def plain_generate(model: str, sentences: Sequence[str]) -> Callable[[], Any]:
    """Greedy `generate` as one would first write it, with the same number of tokens."""
    tokenizer = transformers.MarianTokenizer.from_pretrained(model)
    loaded: Any = transformers.MarianMTModel.from_pretrained(model).eval()
    loaded.generation_config.max_length = None
    loaded.generation_config.forced_eos_token_id = None

    def work() -> None:
        for first in range(0, len(sentences), 16):
            inputs = tokenizer(list(sentences[first : first + 16]), padding=True, return_tensors="pt")
            with torch.inference_mode():
                loaded.generate(**inputs, num_beams=1, do_sample=False, max_new_tokens=TOKENS)

    return work


def stage(root: Path, shared: dict[str, Any], texts: Sequence[str]) -> None:
    """Compare the whole of a shard's work with the engine on token lists that are ready: same distinct sentences, same batches."""
    settings = CTranslate2Translator(**shared, cache=str(root))
    passages = [SourcePassage("", text) for text in texts[:25]]
    translator = PassageTranslator(TranslateSettings(by=settings), "en", ("de",), Engines(settings, "en", "cpu", 1))
    translator.translate(passages[:1], "de")
    translator.work.translated = 0
    whole = cpu_seconds(lambda: translator.translate(passages, "de"))
    count = translator.work.translated
    whole = min(whole, cpu_seconds(lambda: translator.translate(passages, "de")))
    engine: Any = translator.engines.get("de")
    names = vocabulary(next(path.parent for path in root.glob("marian-int8-*/polyray.json")))
    distinct = list(dict.fromkeys(sentence for p in passages for sentence in split(p.text, "en").sentences))
    rows = [[names[i] for i in source.ids] for source in engine._codec.encode(distinct, "en", "de")]  # noqa: SLF001
    bare_engine: ctranslate2.Translator = engine._translator  # noqa: SLF001
    options: dict[str, Any] = {"beam_size": 1, "max_decoding_length": TOKENS, "max_input_length": 0}
    bare = min(
        cpu_seconds(lambda: bare_engine.translate_batch(rows, max_batch_size=4096, batch_type="tokens", **options))
        for _ in range(2)
    )
    print(f"\nwhole stage, int8, greedy: {count} distinct sentences of {len(passages)} passages")
    print(
        f"bare engine {len(rows) * TOKENS / bare:.0f}, whole stage {count * TOKENS / whole:.0f} tokens per CPU-second: {bare / whole:.1%}"
    )


def measure(
    name: str, translated: Sequence[str], references: Sequence[str], lang: str, seconds: float | None = None
) -> None:
    found = quality(translated, references, lang)
    took = "–" if seconds is None else f"{seconds:.1f}"
    print(f"| {name} | en-{lang} | {found.bleu:.1f} | {found.chrf:.1f} | {took} |", flush=True)


def measure_quality(root: Path, train_seconds: float) -> None:
    file = os.environ.get("POLYRAY_TICO19")
    if not file or not Path(file).exists():
        sys.exit(
            "set POLYRAY_TICO19 to the segments.jsonl.gz of TICO-19 (one JSON object a line: sid and texts by language)"
        )
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    train, test = rows[:-HELD_OUT], rows[-HELD_OUT:]
    english = [row["en"] for row in test]
    print("\n| translator | languages | BLEU | chrF | CPU-seconds |\n|---|---|---|---|---|")
    for column, lang in (("es-LA", "es"), ("fr", "fr"), ("zh", "zh")):
        measure("copy", english, [row[column] for row in test], lang)
    spanish = [row["es-LA"] for row in test]
    if shutil.which("apertium"):
        by = CommandTranslator(command=("apertium", "-u", "-n", "eng-spa"), name="apertium-eng-spa", format="lines")
        translate_and_measure("Apertium eng-spa (command)", load_engine(by, "en", "es", "cpu"), english, spanish)
    model = train_marian(root / "trained", [(row["en"], row["es-LA"]) for row in train], train_seconds)
    chosen: dict[str, Any] = {"model": model, "no_repeat_ngram": 4}
    engines = {
        "trained here, transformers float32": TransformersTranslator(**chosen),
        "trained here, CTranslate2 float32": CTranslate2Translator(**chosen, quantization="float32", cache=str(root)),
        "trained here, CTranslate2 int8": CTranslate2Translator(**chosen, cache=str(root)),
        "trained here, CTranslate2 int8, beam 4": CTranslate2Translator(**chosen, beam_size=4, cache=str(root)),
    }
    for name, settings in engines.items():
        translate_and_measure(name, load_engine(settings, "en", "es", "cpu"), english, spanish)


def translate_and_measure(
    name: str, engine: TranslationEngine, english: Sequence[str], references: Sequence[str]
) -> None:
    class Held(Engines):
        def get(self, lang: str, origin: str = "") -> TranslationEngine:
            del lang, origin
            return engine

    settings = TranslateSettings(by=CommandTranslator(command=("-",), name="held"))
    translator = PassageTranslator(settings, "en", ("es",), Held(settings.by, "en", "cpu", 1))  # pyright: ignore[reportArgumentType]
    start = time.process_time() + os.times().children_user + os.times().children_system
    found = translator.translate([SourcePassage("", text) for text in english], "es")
    seconds = time.process_time() + os.times().children_user + os.times().children_system - start
    measure(name, [passage.text for passage in found], references, "es", seconds)
    counts: dict[str, int] = {}
    for passage in found:
        for flag in passage.flags:
            counts[flag] = counts.get(flag, 0) + 1
    print(f"  flags of {len(found)}: {counts}", file=sys.stderr)


def train_marian(folder: Path, pairs: Sequence[tuple[str, str]], seconds: float) -> str:
    """Train a small Marian model by Adam on token batches for some CPU time."""
    shape = {
        "d_model": 256, "encoder_layers": 3, "decoder_layers": 3, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "encoder_ffn_dim": 512, "decoder_ffn_dim": 512, "max_position_embeddings": 256, "init_std": 0.02, "dropout": 0.2,
    }  # fmt: skip
    save_marian(folder, size=4000, texts=[text for pair in pairs for text in pair], **shape)
    tokenizer = transformers.MarianTokenizer.from_pretrained(folder)
    model = transformers.MarianMTModel.from_pretrained(folder).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98))
    generator = torch.Generator().manual_seed(0)
    start, step, loss = time.process_time(), 0, torch.tensor(0.0)
    while (spent := time.process_time() - start) < seconds:
        chosen = torch.randint(len(pairs), (24,), generator=generator).tolist()
        inputs = tokenizer(
            [pairs[i][0] for i in chosen], padding=True, truncation=True, max_length=80, return_tensors="pt"
        )
        labels = tokenizer(
            text_target=[pairs[i][1] for i in chosen], padding=True, truncation=True, max_length=80, return_tensors="pt"
        )
        targets = labels["input_ids"].masked_fill(labels["attention_mask"] == 0, -100)
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 200) * max(0.05, 1 - spent / seconds)
        loss = model(**inputs, labels=targets).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
    print(f"trained {step} steps of 24 pairs in {spent:.0f} CPU-seconds, last loss {loss.item():.2f}", file=sys.stderr)
    model.eval().save_pretrained(folder)
    return str(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quality", action="store_true", help="measure BLEU and chrF on TICO-19 instead")
    parser.add_argument("--train-seconds", type=float, default=600, help="CPU-seconds of training (default 600)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    print(
        f"{cpu_model()}, {os.cpu_count()} cores; torch {torch.__version__}, transformers {transformers.__version__},"
        f" CTranslate2 {ctranslate2.__version__}"
    )
    with tempfile.TemporaryDirectory() as root:
        measure_quality(Path(root), options.train_seconds) if options.quality else speed(Path(root))


if __name__ == "__main__":
    main()
