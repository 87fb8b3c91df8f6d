"""The model card beside a checkpoint: a README.md with the metadata that the Hugging Face Hub reads."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from distill.config import Config
from distill.encoders.settings import FreshStudent, LateInteractionStudent, PretrainedStudent
from distill.report.card_loading import loading
from distill.report.run import SYSTEMS
from distill.score.settings import EnsembleTeacher, HttpTeacher, ImportedTeacher, Teacher
from distill.sources.settings import BeirSource, BundledSource, FileSource, IrDatasetsSource, Source
from distill.train.loss_settings import AnyLoss, summands

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_CITATIONS = {
    "mtd": (
        "The method is that of Yang, Lawrie and Mayfield, *Distillation for Multilingual Information Retrieval*, SIGIR "
        "2024 ([arXiv 2405.00977](https://arxiv.org/abs/2405.00977))."
    ),
    "td": (
        "The method is that of Yang, Lawrie, Mayfield, Oard and Miller, *Translate-Distill: Learning Cross-Language Dense "
        "Retrieval by Translation and Distillation*, ECIR 2024 ([arXiv 2401.04810](https://arxiv.org/abs/2401.04810))."
    ),
    "arm": "The method is that of [arXiv 2407.21515](https://arxiv.org/abs/2407.21515), adaptive relevance margins.",
    "translate_train": (
        "The method is multilingual Translate-Train, as a baseline in "
        "[arXiv 2405.00977](https://arxiv.org/abs/2405.00977)."
    ),
}
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
    """Return the text of README.md for the student of a run.

    Args:
        config: the run's resolved configuration.
        numbers: the run's `summary`.
        license_id: a licence in the Hub's spelling (`mit`, `cc-by-4.0` ...). If None, `apache-2.0` if weights and text are the
            project's own, otherwise `unknown`, because the start checkpoint and the texts decide it.
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
        loading(config.student),
        "## Limits",
        _limits(config, numbers),
        "## Citation",
        _CITATIONS[_method(config)],
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
        "tags": _tags(config),
        "metrics": ["ndcg", "map", "recall", "mrr"],
    }
    # The Hub links a base model by its id; a folder or a bundled checkpoint has none.
    if isinstance(start, PretrainedStudent) and _on_hub(start.model):
        metadata["base_model"] = start.model
    return metadata


def _method(config: Config) -> str:
    """Return the method that the student was trained by."""
    if config.method == "self_distillation":
        return "arm"
    if config.method == "translate_train":
        return "translate_train"
    return "td" if config.mix.strategy == "single" else "mtd"


def _tags(config: Config) -> list[str]:
    late = isinstance(config.student, LateInteractionStudent)
    kind = ["ColBERT", "late-interaction"] if late else ["dense-retrieval", "single-vector"]
    method = [] if config.method == "translate_train" else ["distillation"]
    return [*kind, "multilingual-retrieval", "cross-language-retrieval", *method]


def _introduction(config: Config) -> str:
    student = config.student
    if isinstance(student, LateInteractionStudent):
        what = (
            f"A late-interaction retriever (ColBERT): a vector of {student.dim} numbers for each token, and as score of a "
            "passage the sum over the query's tokens of the largest inner product with a token of the passage."
        )
    else:
        what = f"A single-vector retriever: one vector for each text ({student.pooling}), compared by inner product."
    how = {
        "mtd": (
            f"by distilling a teacher that reads the passages in {config.score.passage_lang or config.source_lang} "
            "([Multilingual Translate-Distill](https://arxiv.org/abs/2405.00977))"
        ),
        "td": (
            f"by distilling a teacher that reads the passages in {config.score.passage_lang or config.source_lang} "
            "([Translate-Distill](https://arxiv.org/abs/2401.04810))"
        ),
        "arm": "from judgements, by [adaptive relevance margins](https://arxiv.org/abs/2407.21515)",
        "translate_train": "from judgements (Translate-Train)",
    }
    return (
        f"{what} It was trained to find passages in {_listed(config.mixed_languages)} with queries in "
        f"{config.student_query_lang}, {how[_method(config)]}. Trained with Polyray."
    )


def _results(config: Config, numbers: Mapping[str, Any]) -> str:
    metrics = numbers["metrics"]
    name = numbers["primary"]
    if not metrics.get("student"):
        why = numbers["not_evaluated"]
        return f"The student was not evaluated{': ' + why if why else ''}."
    systems = list(metrics)
    collections = list(dict.fromkeys(collection for by in metrics.values() for collection in by))
    queries, counts = numbers["queries_of_collections"], numbers["counts"]
    uneven = len(set(queries.values())) > 1
    lines = [
        f"| {name} | " + " | ".join(str(SYSTEMS.get(system, system)) for system in systems) + " |",
        f"|---|{'---:|' * len(systems)}",
    ]
    lines += [
        _row(
            f"{collection} ({queries[collection]:,} queries)" if uneven else collection,
            [metrics[system].get(collection, {}).get(name) for system in systems],
        )
        for collection in collections
    ]
    over = numbers["mean_languages"]
    if len(over) > 1:
        label = f"mean of {len(over)} languages" if over == list(config.languages) else f"mean over {', '.join(over)}"
        lines.append(_row(label, [numbers["means"].get(system, {}).get(name) for system in systems]))
    trained = counts["trained_on"]
    share = "All" if trained == counts["queries"] else f"{trained:,}"
    return (
        (f"**{share} of the evaluated queries were trained on.** " if trained else "")
        + f"On {counts['queries']:,} queries of the {config.evaluate.split} split, in "
        f"{config.evaluate.query_lang or config.source_lang}. A language code is the collection of all passages in "
        "that language, `mixed` holds each passage once in one of the languages, `pooled` every passage in every language."
        + (" Queries to which no document of a collection is relevant are left out there." if uneven else "")
        + (" The teacher reads passages in the source language only: a ceiling." if "teacher" in systems else "")
        + "\n\n"
        + "\n".join(lines)
    )


def _row(label: str, values: Sequence[float | None]) -> str:
    return f"| {label} | " + " | ".join("–" if value is None else f"{value:.3f}" for value in values) + " |"


def _training(config: Config, numbers: Mapping[str, Any]) -> str:
    train, counts = config.train, numbers["counts"]
    english = config.method == "english_distillation"
    mixing = _MIXING.get("single" if english else config.mix.strategy, f"every passage in {config.mixed_languages[0]}")
    if config.mix.imported is not None and not config.mix.translates_imported:
        mixing = "every passage in its own language"
    lines = [
        (
            f"- Data: {_source(config.source)}; {counts['passages']:,} passages in {config.source_lang}, "
            f"{counts['translations']:,} translations of them."
        ),
        f"- Start: {_start(config)}.",
        *(
            [f"- Teacher: {_teacher(config.score.teacher)}, on {_languages_read(config)}."]
            if config.has_teacher
            else []
        ),
        f"- Candidates: {config.select.by.top_k} a query, {_SELECTORS[config.select.by.type]}.",
        f"- Examples: {_drawn(config)}; {mixing}.",
        f"- Loss: {'; '.join(_loss(loss) for loss in summands(train.loss))}.",
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


def _drawn(config: Config) -> str:
    """Return in words which passages an example holds."""
    mix = config.mix
    if mix.sampling == "pairs":
        return f"a positive and a negative, {mix.epochs} different pairs of each query"
    which = {
        "random": "drawn at random from the candidates",
        "first": "the first of the candidates",
        "beta": f"drawn from the candidates, ever more of the first ones (beta up to {mix.max_beta:g})",
    }[mix.sampling]
    positive = ", one of them judged relevant" if mix.negatives is not None and mix.negatives.include_positive else ""
    return f"{mix.n_way} passages {which}{positive}"


def _loss(loss: AnyLoss) -> str:
    """Return a loss in words, with its weight unless it is 1."""
    return loss.words + ("" if loss.weight == 1 else f" (weight {loss.weight:g})")


def _limits(config: Config, numbers: Mapping[str, Any]) -> str:
    missing = numbers["counts"]["missing_translations"]
    lines = [
        f"- Trained on passages in {_listed(config.mixed_languages)} only.",
        f"- Trained with queries in {config.student_query_lang}; in other languages quality depends on the start checkpoint.",
        f"- Passages longer than {config.student.passage_tokens} tokens are truncated: cut documents into passages.",
        (
            "- The student learns the teacher's preferences, errors and biases, through translations with theirs."
            if config.has_teacher
            else "- The student learns from few judgements and from translations, with their errors and biases."
        ),
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
    """Name a model as a reader elsewhere can use it: of a local folder, its name only."""
    if not _on_hub(model) and not model.startswith("bundled:"):
        return f"a local checkpoint, `{Path(model).name}`"
    return f"`{model}`" + (f" at revision `{revision}`" if revision else "")


def _on_hub(model: str) -> bool:
    return _HUB_ID.fullmatch(model) is not None and not Path(model).exists()


def _listed(codes: tuple[str, ...]) -> str:
    return codes[0] if len(codes) == 1 else f"{', '.join(codes[:-1])} and {codes[-1]}"
