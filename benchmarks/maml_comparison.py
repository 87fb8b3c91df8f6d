"""MAML-Align beside its baselines, on questions (LAReQA's XQuAD-R) or graded sentence pairs (STS benchmark), without a cluster.

    python benchmarks/maml_comparison.py --questions DIR --out lareqa.jsonl
    python benchmarks/maml_comparison.py --questions DIR --encoder minilm --out minilm.jsonl
    python benchmarks/maml_comparison.py --pairs DIR --encoder minilm --out pairs.jsonl

The encoder is the multilingual start that ships with the project, or the English one of the `embedded` extra (`minilm`).
DIR holds queries.jsonl.gz, candidates.jsonl.gz and qrels.multilingual.gz, or {train,dev,test}.jsonl.gz, as docs/meta.md describes them.
Tasks, losses, trainers and evaluation are the job's own; only the loop over systems and seeds is here. Every system makes the same number
of outer steps on as many tasks. Each training is written to the results file when it is done and is not done again: with all results
there, only the tables are printed.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from scipy import stats

from distill.encoders.checkpoints import load_encoder, save_encoder
from distill.encoders.settings import PretrainedStudent, SingleVectorStudent
from distill.encoders.start import start_student
from distill.meta.evaluate.stage import evaluate
from distill.meta.settings import (
    MetaEvaluateSettings,
    MetaTrainSettings,
    QuestionFiles,
    SentencePairFiles,
    TaskSettings,
)
from distill.meta.sources.folds import Fold
from distill.meta.sources.stage import ingest
from distill.meta.tasks.stage import make_tasks
from distill.meta.tasks.vectors import encode_source
from distill.meta.train.batches import TaskLoss, task_sets
from distill.meta.train.trainer import MetaTrainer
from distill.models.locate import BUNDLED_STUDENT, BUNDLED_TEACHER
from tests.workspaces import LocalWorkspace

SEEDS = (1, 2, 3)
WEIGHTS = (0.1, 0.5, 0.9)
MODES = ("mono_mono", "mono_bi", "mono_multi", "bi_multi", "mixed", "trans")


@dataclass(frozen=True)
class Encoder:
    """An encoder to adapt, and the time there is for it.

    Attributes:
        model: the start.
        languages: those with examples.
        evaluated: those of questions and candidates, or of pairs; empty: all.
        steps: outer steps.
        rate: outer learning rate.
        tokens: longest candidate.
        pairs: test pairs that are evaluated.
    """

    model: str
    languages: tuple[str, ...]
    evaluated: tuple[str, ...]
    steps: int
    rate: float
    tokens: int
    pairs: int


QUESTIONS = {
    "student": Encoder(BUNDLED_STUDENT, ("de", "es", "ru"), (), 12, 3e-4, 64, 0),
    "minilm": Encoder(BUNDLED_TEACHER, ("en", "de", "es"), ("en", "de", "es", "tr", "vi"), 4, 1e-4, 48, 0),
}
PAIRS = {
    "student": Encoder(BUNDLED_STUDENT, ("de", "es", "ru"), ("de", "en", "es", "fr", "ru", "zh"), 12, 3e-4, 64, 500),
    "minilm": Encoder(BUNDLED_TEACHER, ("en", "de", "es"), ("de", "en", "es", "fr", "it"), 6, 1e-4, 48, 300),
}


@dataclass(frozen=True)
class System:
    """One row of the table."""

    method: str
    mode: str = "mono_bi_multi"
    train: Mapping[str, Any] = field(default_factory=dict)
    tasks: Mapping[str, Any] = field(default_factory=dict)


def systems(*, questions: bool) -> dict[str, System]:
    """Return the systems, the principal ones first: a run that is cut short has them for every seed."""
    found = {"zero_shot": System("zero_shot"), "fine_tune": System("fine_tune"), "maml_trans": System("maml", "trans")}
    for variant in ("paper", "released_code"):
        found[f"align_{variant}_0.5"] = System("maml_align", train={"variant": variant})
    if questions:
        found["fine_tune similar"] = System("fine_tune", tasks={"query_set": "similar"})
        found["align_paper_0.5 similar"] = System("maml_align", tasks={"query_set": "similar"})
    found |= {f"maml_{mode}": System("maml", mode) for mode in MODES}
    for variant in ("paper", "released_code"):
        for weight in WEIGHTS:
            train = {"variant": variant, "distillation_weight": weight}
            found[f"align_{variant}_{weight}"] = System("maml_align", train=train)
    if questions:
        found["maml_trans similar"] = System("maml", "trans", tasks={"query_set": "similar"})
        found["align_released_code_0.5 similar"] = System(
            "maml_align", train={"variant": "released_code"}, tasks={"query_set": "similar"}
        )
    return found


class Folder(LocalWorkspace):
    """A workspace whose inputs are the folders beside its own."""

    def __init__(self, root: Path, name: str) -> None:
        super().__init__(root, name)
        self._root = root

    def input_folder(self, stage: str) -> str:
        """Return the folder of another stage."""
        return str(self._root / stage)


@dataclass
class Comparison:
    """All trainings with one encoder on one kind of data."""

    encoder: Encoder
    source: QuestionFiles | SentencePairFiles
    root: Path

    def __post_init__(self) -> None:
        ingest(Folder(self.root, "meta_sources"), self.source, 0.0)
        self._thin()
        student = SingleVectorStudent(
            start=PretrainedStudent(model=self.encoder.model), query_tokens=32, passage_tokens=self.encoder.tokens
        )
        save_encoder(start_student(student, [], 0), self.root / "meta_start" / "start")
        self._evaluation = MetaEvaluateSettings(languages=self.encoder.evaluated)
        if self.source.kind == "retrieval":
            encode_source(Folder(self.root, "meta_vectors"), self._evaluation, "meta_sources", "meta_start")

    def _thin(self) -> None:
        """Keep as many test pairs as there is time for, and the languages that are read."""
        if self.source.kind != "similarity":
            return
        folder = Folder(self.root, "meta_sources")
        pairs = folder.output("sentence_pairs")
        wanted = pc.is_in(pairs["lang"], value_set=pa.array({*self.encoder.languages, *self.encoder.evaluated}))
        test = pc.equal(pairs["split"], "test")
        kept = sorted(pc.unique(pairs.filter(test)["pair_id"]).to_pylist())[: self.encoder.pairs]
        wanted = pc.and_(wanted, pc.or_(pc.invert(test), pc.is_in(pairs["pair_id"], value_set=pa.array(kept))))
        folder.write("sentence_pairs", pairs.filter(wanted))

    def run(self, system: System, seed: int) -> dict[str, Any]:
        """Train and measure: values by language or pair of languages, and seconds."""
        began = time.process_time()
        kind = self.source.kind
        fold = Fold(0, None, 0)
        encoder = load_encoder(self.root / "meta_start" / "start")
        if system.method != "zero_shot":
            self._train(encoder, system, seed, fold)
        trained = time.process_time() - began
        with tempfile.TemporaryDirectory(dir=self.root) as name:
            save_encoder(encoder, f"{name}/checkpoint")
            folder = Folder(self.root, f"{Path(name).name}/measured")
            evaluate(folder, self._evaluation, kind, fold, "meta_sources", Path(name).name, "checkpoint")
            values = by_language(folder, kind)
        return {
            "values": values,
            "train_s": round(trained, 1),
            "evaluate_s": round(time.process_time() - began - trained, 1),
        }

    def _train(self, encoder: Any, system: System, seed: int, fold: Fold) -> None:
        kind, chosen = self.source.kind, self.encoder
        sizes = {"shots": 3, "queries": 3} if kind == "retrieval" else {"shots": 8, "queries": 4}
        settings = MetaTrainSettings.model_validate(
            {"steps": chosen.steps, "learning_rate": chosen.rate, "log_every": 1, "checkpoint_every": 1}
            | dict(system.train)
        )
        count = settings.steps * settings.tasks_per_batch
        tasks = TaskSettings.model_validate(
            {"mode": system.mode, "tasks": count, "folds": None} | sizes | dict(system.tasks)
        )
        transfers = tasks.wanted_transfers(chosen.languages)
        with tempfile.TemporaryDirectory(dir=self.root) as name:
            folder = Folder(self.root, Path(name).name)
            make_tasks(folder, tasks, transfers, fold, seed, kind, vectors="meta_vectors")
            rows = folder.output("retrieval_tasks" if kind == "retrieval" else "similarity_tasks").to_pylist()
        trainer = MetaTrainer(encoder, TaskLoss(encoder, settings.margin), settings, system.method, seed)  # pyright: ignore[reportArgumentType]
        for step in range(settings.steps):
            batch = rows[step * settings.tasks_per_batch : (step + 1) * settings.tasks_per_batch]
            trainer.meta_step([task_sets(encoder, row) for row in batch])
        encoder.eval()


def by_language(folder: Folder, kind: str) -> dict[str, float]:
    """mAP@20 of every question language, or Pearson's correlation of every pair of languages."""
    if kind == "retrieval":
        table = folder.output("question_precision")
        groups = table.group_by("lang").aggregate([("value", "mean")])
        return dict(zip(groups["lang"].to_pylist(), groups["value_mean"].to_pylist(), strict=True))
    rows: dict[str, list[tuple[float, float]]] = {}
    for row in folder.output("pair_similarity").to_pylist():
        rows.setdefault(f"{row['first_lang']}-{row['second_lang']}", []).append((row["value"], row["score"]))
    return {name: float(np.corrcoef(np.array(found).T)[0, 1]) for name, found in sorted(rows.items())}


def means(values: Mapping[str, float], languages: Sequence[str]) -> dict[str, float]:
    """Means over languages, or pairs of languages: all, those with examples (both of a pair), the others."""
    seen = [value for name, value in values.items() if set(name.split("-")) <= set(languages)]
    unseen = [value for name, value in values.items() if not set(name.split("-")) <= set(languages)]
    return {
        "all": float(np.mean(list(values.values()))),
        "seen": float(np.mean(seen)),
        "unseen": float(np.mean(unseen)),
    }


def table(results: Sequence[Mapping[str, Any]], encoder: Encoder) -> str:
    """Means over the seeds, and the differences from the start and from fine-tuning on the same kind of query set."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for row in results:
        found.setdefault(row["system"], {})[row["seed"]] = means(row["values"], encoder.languages)
    (start,) = found["zero_shot"].values()
    lines = [
        "| system | seeds | all | seen | unseen | all, less zero-shot (95 %) | all, less fine-tuning (95 %) |",
        "|---|---|---|---|---|---|---|",
    ]
    for system, seeds in found.items():
        cells = [f"{np.mean([by[group] for by in seeds.values()]):.4f}" for group in ("all", "seen", "unseen")]
        baseline = found.get("fine_tune similar" if system.endswith("similar") else "fine_tune", {})
        cells += [difference(seeds, dict.fromkeys(seeds, start)), difference(seeds, baseline)]
        lines.append(f"| {system} | {len(seeds)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def difference(seeds: Mapping[int, Mapping[str, float]], baseline: Mapping[int, Mapping[str, float]]) -> str:
    """Return the mean difference over the seeds that both have, and its t interval."""
    gaps = np.array([found["all"] - baseline[seed]["all"] for seed, found in seeds.items() if seed in baseline])
    if len(gaps) < 2 or not gaps.any():
        return "-"
    reach = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / len(gaps) ** 0.5
    return f"{gaps.mean():+.4f} ({gaps.mean() - reach:+.4f} to {gaps.mean() + reach:+.4f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--questions", type=Path)
    data.add_argument("--pairs", type=Path)
    parser.add_argument("--encoder", choices=tuple(QUESTIONS), default="student")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    source: QuestionFiles | SentencePairFiles
    if options.questions:
        chosen, folder = QUESTIONS[options.encoder], options.questions
        source = QuestionFiles(
            questions=f"{folder}/queries.jsonl.gz", candidates=f"{folder}/candidates.jsonl.gz",
            qrels=f"{folder}/qrels.multilingual.gz", split_field="split_article",
        )  # fmt: skip
    else:
        chosen, folder = PAIRS[options.encoder], options.pairs
        source = SentencePairFiles.model_validate(
            {split: f"{folder}/{split}.jsonl.gz" for split in ("train", "dev", "test")}
        )
    wanted = systems(questions=bool(options.questions))
    lines = options.out.read_text(encoding="utf-8").splitlines() if options.out.exists() else []
    results = [json.loads(line) for line in lines]
    done = {(row["system"], row["seed"]) for row in results}
    waiting = [(name, seed) for name in wanted for seed in SEEDS if (name, seed) not in done]
    waiting = [(name, seed) for name, seed in waiting if name != "zero_shot" or seed == SEEDS[0]]
    if waiting:
        with tempfile.TemporaryDirectory() as root:
            comparison = Comparison(chosen, source, Path(root))
            for name, seed in waiting:
                row = {"system": name, "seed": seed, **comparison.run(wanted[name], seed)}
                results.append(row)
                with options.out.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(row) + "\n")
                print(name, seed, means(row["values"], chosen.languages), row["train_s"], row["evaluate_s"], flush=True)
    print(table(results, chosen))


if __name__ == "__main__":
    main()
