"""The model card beside a checkpoint: a README.md with the metadata that the Hugging Face Hub reads."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from distill.config import Config
from distill.evaluate import primary_measure
from distill.report import SYSTEMS
from distill.settings.score import EnsembleTeacher, HttpTeacher, ImportedTeacher, Teacher
from distill.settings.sources import BeirSource, BundledSource, FileSource, IrDatasetsSource, Source
from distill.settings.train import FreshStudent, PretrainedStudent

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_CITATION = (
    "The method is that of Yang, Lawrie and Mayfield, *Distillation for Multilingual Information Retrieval*, SIGIR "
    "2024 ([arXiv 2405.00977](https://arxiv.org/abs/2405.00977))."
)
_MIXING = {
    "mix_passages": "each passage of an example in a language of its own draw (*mix passages*)",
    "mix_entries": "all passages of an example in one drawn language (*mix entries*)",
    "round_robin": "every example once in each language (*round-robin entries*)",
}


_SELECTORS = {
    "bm25": "by BM25",
    "run": "from a run file",
    "scored": "from a file of scores",
    "dense": "by a bi-encoder",
    "late_interaction": "by late interaction",
}
_TEACHERS = {
    "bi_encoder": "bi-encoder",
    "late_interaction": "late-interaction model",
    "cross_encoder": "cross-encoder",
    "monot5": "monoT5",
    "causal": "causal reranker",
}


def model_card(config: Config, numbers: Mapping[str, Any], license_id: str | None = None) -> str:
    """The text of README.md for the student of a run.

    Args:
        config: the run's resolved configuration.
        numbers: the run's `summary`.
        license_id: a licence in the Hub's spelling (`mit`, `cc-by-4.0` ...); none: `apache-2.0` where weights and text
            are the project's own, otherwise `unknown`, because the start checkpoint and the texts decide it.
    """
    metadata = yaml.safe_dump(_metadata(config, license_id), sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{metadata}---",
        f"# {config.name}",
        _introduction(config),
        "## Results",
        _results(config, numbers),
        "## Training",
        _training(config, numbers),
        "## How to load it",
        _loading(config),
        "## Limits",
        _limits(config, numbers),
        "## Citation",
        _CITATION,
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(config: Config, license_id: str | None) -> dict[str, Any]:
    start = config.student.start
    own = isinstance(config.source, BundledSource) and (
        isinstance(start, FreshStudent) or start.model.startswith("bundled:")
    )
    metadata: dict[str, Any] = {
        "language": [config.source_lang, *config.languages],
        "license": license_id or ("apache-2.0" if own else "unknown"),
        "pipeline_tag": "sentence-similarity",
        "tags": ["ColBERT", "late-interaction", "multilingual-retrieval", "cross-language-retrieval", "distillation"],
        "metrics": ["ndcg", "map", "recall", "mrr"],
    }
    # The Hub links a base model by its id; a folder or a bundled checkpoint has none.
    if isinstance(start, PretrainedStudent) and _on_hub(start.model):
        metadata["base_model"] = start.model
    return metadata


def _introduction(config: Config) -> str:
    student = config.student
    return (
        f"A late-interaction retriever (ColBERT): a vector of {student.dim} numbers for each token, and as score of a "
        "passage the sum over the query's tokens of the largest inner product with a token of the passage. It was "
        f"trained to find passages in {_listed(config.mixed_languages)} with queries in {config.source_lang}, by "
        "distilling a teacher that reads the passages in "
        f"{config.source_lang} ([Multilingual Translate-Distill](https://arxiv.org/abs/2405.00977)). "
        "Trained with Polyray."
    )


def _results(config: Config, numbers: Mapping[str, Any]) -> str:
    metrics = numbers["metrics"]
    measured = [measure for by in metrics.get("student", {}).values() for measure in by]
    if not measured:
        return "The student was not evaluated."
    name = primary_measure(measured)
    systems = list(metrics)
    collections = list(dict.fromkeys(collection for by in metrics.values() for collection in by))
    lines = [
        f"| {name} | " + " | ".join(str(SYSTEMS.get(system, system)) for system in systems) + " |",
        f"|---|{'---:|' * len(systems)}",
    ]
    lines += [_row(c, [metrics[system].get(c, {}).get(name) for system in systems]) for c in collections]
    means = [numbers["means"].get(system, {}).get(name) for system in systems]
    lines.append(_row(f"mean of {len(config.languages)} languages", means))
    return (
        f"On {numbers['counts']['queries']} queries of the {config.evaluate.split} split, in "
        f"{config.evaluate.query_lang or config.source_lang}. A language code is the collection of all passages in "
        "that language, `mixed` holds each passage once in one of the languages, `pooled` every passage in every language. "
        "The teacher reads passages in the source language only: a ceiling.\n\n" + "\n".join(lines)
    )


def _row(label: str, values: Sequence[float | None]) -> str:
    return f"| {label} | " + " | ".join("–" if value is None else f"{value:.3f}" for value in values) + " |"


def _training(config: Config, numbers: Mapping[str, Any]) -> str:
    train, counts = config.train, numbers["counts"]
    mixing = _MIXING.get(config.mix.strategy, f"every passage in {config.mix.language}")
    lines = [
        (
            f"- Data: {_source(config.source)}; {counts['passages']:,} passages in {config.source_lang}, "
            f"{counts['translations']:,} translations of them."
        ),
        f"- Start: {_start(config)}.",
        f"- Teacher: {_teacher(config.score.teacher)}, on {_languages_read(config)}.",
        f"- Candidates: {config.select.by.top_k} a query, {_SELECTORS[config.select.by.type]}.",
        f"- Examples: {config.mix.n_way} passages drawn at random from the candidates; {mixing}.",
        (
            "- Loss: KL(teacher ‖ student) over the passages of an example, on raw scores times "
            f"{train.teacher_scale:g} (teacher) and {train.student_scale:g} (student)."
        ),
        (
            f"- Optimiser: AdamW, {train.steps:,} steps of {train.batch_size} examples, learning rate "
            f"{train.learning_rate:g} ({train.schedule}, {train.warmup_steps:,} steps of warm-up), weight decay "
            f"{train.weight_decay:g}, gradients clipped to norm {train.max_grad_norm:g}, {train.dtype}, "
            f"seed {config.seed}."
        ),
        f"- Lengths: {config.student.query_tokens} tokens a query, up to {config.student.passage_tokens} a passage.",
    ]
    if "student" in numbers["training"]:
        log = numbers["training"]["student"]
        lines.append(f"- Loss at the first and last logged step: {log['first_loss']:.4g}, {log['last_loss']:.4g}.")
    return "\n".join(lines)


def _loading(config: Config) -> str:
    same, other = ("PyLate", "PLAID-X") if config.student.marker_mode == "insert" else ("PLAID-X", "PyLate")
    return f"""The folder is in the HF_ColBERT layout. With Polyray:

```python
from distill.encoder import LateInteractionEncoder

encoder = LateInteractionEncoder.load("path/to/this/folder")
queries = encoder.encode_queries(["..."])  # one matrix of token vectors for each query
passages = encoder.encode_passages(["...", "..."])  # a list of matrices
scores = [(queries[0] @ passage.T).amax(dim=1).sum() for passage in passages]
```

PyLate (`pylate.models.ColBERT("path/to/this/folder")`) and PLAID-X read the same folder. The query and passage markers
are placed as {same} places them (`marker_mode: {config.student.marker_mode}`); {other} places them differently with
some tokenizers (XLM-R), and then gives somewhat different scores."""


def _limits(config: Config, numbers: Mapping[str, Any]) -> str:
    missing = numbers["counts"]["missing_translations"]
    lines = [
        f"- Trained on passages in {_listed(config.mixed_languages)} only.",
        f"- Trained with queries in {config.source_lang}; in others it works as well as the start allows.",
        f"- Passages longer than {config.student.passage_tokens} tokens are truncated: cut documents into passages.",
        "- The student learns the teacher's preferences, errors and biases, through translations with theirs.",
        "- Scores order the passages of one query. They are not probabilities and do not compare across queries.",
    ]
    if missing:
        lines.append(f"- {missing:,} pairs of passage and language had no translation and were not trained on.")
    if isinstance(config.source, BundledSource):
        lines.append("- The bundled corpus is small and general: a demonstration, not a retriever for use.")
    return "\n".join(lines)


def _source(source: Source) -> str:
    match source:
        case BundledSource():
            return "the parallel corpus that ships with Polyray (240 passages, seven languages, CC0)"
        case FileSource():
            return "the publisher's own files"
        case BeirSource():
            return "a collection in the BEIR layout"
        case IrDatasetsSource():
            return "ir_datasets " + ", ".join(f"`{name}` ({lang})" for lang, name in source.passages.items())


def _start(config: Config) -> str:
    start = config.student.start
    if isinstance(start, FreshStudent):
        return (
            f"random weights, {start.layers} layers of width {start.hidden}, a tokenizer of {start.vocabulary:,} "
            "entries trained on the passages"
        )
    return _model(start.model, start.revision)


def _teacher(teacher: Teacher) -> str:
    match teacher:
        case EnsembleTeacher():
            return f"the ensemble ({teacher.method}) of {', '.join(_teacher(member) for member in teacher.teachers)}"
        case ImportedTeacher():
            return f"imported scores of `{teacher.name}`"
        case HttpTeacher():
            return f"`{teacher.model}` behind HTTP" if teacher.model else "a server behind HTTP"
        case _:
            return f"the {_TEACHERS[teacher.type]} {_model(teacher.model, teacher.revision)}"


def _languages_read(config: Config) -> str:
    queries, passages = (lang or config.source_lang for lang in (config.score.query_lang, config.score.passage_lang))
    return (
        f"queries and passages in {queries}" if queries == passages else f"queries in {queries}, passages in {passages}"
    )


def _model(model: str, revision: str | None) -> str:
    """A model as a reader elsewhere can make use of it: of a local folder, its name only."""
    if not _on_hub(model) and not model.startswith("bundled:"):
        return f"a local checkpoint, `{Path(model).name}`"
    return f"`{model}`" + (f" at revision `{revision}`" if revision else "")


def _on_hub(model: str) -> bool:
    return _HUB_ID.fullmatch(model) is not None and not Path(model).exists()


def _listed(codes: tuple[str, ...]) -> str:
    return codes[0] if len(codes) == 1 else f"{', '.join(codes[:-1])} and {codes[-1]}"
