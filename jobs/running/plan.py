"""What a job would do: stages to run and to reuse, how much work that is, and what it takes of GPUs and money."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cluster.stages import Runner, Stage
from cluster.storage import open_storage
from distill.config import Config
from distill.models.locate import ModelError
from distill.score.settings import EnsembleTeacher, SingleTeacher
from distill.train.settings import TrainSettings

if TYPE_CHECKING:
    import pyarrow as pa

    from distill.plan.estimates import Work

Manifests = Mapping[str, Mapping[str, Any] | None]


def print_plan(config: Config, stages: Sequence[Stage], runner: Runner) -> None:
    """Print one line a stage, and the sum. What depends on tables that are not there yet is said in terms of settings."""
    manifests = {stage.name: runner.finished(stage) for stage in stages}
    samples = Samples(config, stages, runner, manifests)
    total = 0.0
    print(f"plan of '{config.name}' in {config.storage}")
    for stage in stages:
        manifest = manifests[stage.name]
        if manifest is not None:
            done = f"{manifest['rows']:,} rows, took {manifest['seconds']:g} s, finished {manifest['finished']}"
            print(f"  {stage.name:<20} reuse    {done}")
            continue
        estimated, hours = cost(stage.name, config, samples)
        total += hours
        print(f"  {stage.name:<20} run      {estimate(stage.name, config, manifests)}{estimated}")
    todo = sum(manifest is None for manifest in manifests.values())
    facts = [f"{todo} of {len(stages)} stages to run"]
    if total:
        facts.append(f"{_hours(config, total)} at {_hardware(config)}")
    if todo and not samples.there and "sources" in manifests:
        facts.append("after jobs/sources.py a plan counts pairs, tokens and GPU-hours on a sample of the data")
    print("; ".join(facts))


def estimate(name: str, config: Config, manifests: Manifests) -> str:
    """The work of a stage in words and numbers of the settings."""
    data = manifests.get("sources") or {}
    tables = data.get("tables", {})
    queries = tables.get("queries", {}).get("rows")
    passages = tables.get("passages", {}).get("rows")
    train = config.train
    documents = f"{passages * (1 + len(config.languages)):,}" if passages is not None else "all"
    top_k = config.select.by.top_k
    pairs = f"{queries * top_k:,}" if queries is not None else f"{top_k} a query"
    work = {
        "sources": f"read the {config.source.type} source",
        "select": f"up to {pairs} candidates",
        "translate": f"{len(config.languages)} languages",
        "score": f"up to {pairs} pairs",
        "calibrate": "teacher report",
        "mix": _examples(name, config),
        "train": f"{train.steps:,} steps x {train.batch_size} = {train.steps * train.batch_size:,} examples, {_workers(train)} workers",
        "index": f"up to {documents} documents of at most {config.student.passage_tokens} tokens",
        "retrieve": f"runs of depth {config.evaluate.depth:,}",
        "evaluate": ", ".join(config.evaluate.measures),
    }
    return work[_kind(name)]


def _examples(name: str, config: Config) -> str:
    """What the mix stage makes."""
    mix = config.mix
    english = name == "english_mix" or config.method == "english_distillation"
    words = [f"{mix.epochs} epochs of {mix.n_way}-way examples"]
    if mix.imported and not mix.translates_imported:
        words.append("in the languages of the files")
    else:
        words.append("single" if english else mix.strategy)
    words += [f"sampling {mix.sampling}"] if mix.sampling != "random" else []
    words += [f"from {mix.imported.type} files"] if mix.imported else []
    return ", ".join(words)


def _workers(train: TrainSettings) -> str:
    return f"{train.workers}" if train.max_workers is None else f"{train.workers} to {train.max_workers}"


def cost(name: str, config: Config, samples: "Samples") -> tuple[str, float]:
    """Tokens, operations, GPU-hours and price of a stage, as text, and the GPU-hours; nothing for stages without a model."""
    estimators: dict[str, Callable[[], Work]] = {
        "score": lambda: samples.score(name),
        "train": samples.train,
        "index": samples.index,
        "translate": samples.translate,
    }
    kind = _kind(name)
    if kind not in estimators or not samples.there:
        return "", 0.0
    try:
        work = estimators[kind]()
    except ModelError as error:
        return f" (not estimated: {error})", 0.0
    if not work.operations:
        return "", 0.0
    from distill.models.costs import gpu_hours

    hours = gpu_hours(work.operations, config.plan.gpu_tflops, config.plan.efficiency)
    return f": {work.tokens:,.0f} tokens, {work.operations:.2g} operations, {_hours(config, hours)}", hours


def _kind(name: str) -> str:
    """The stage function that a stage's name stands for."""
    return name.removeprefix("english_").removeprefix("evaluation_").partition("_")[0]


def _hours(config: Config, hours: float) -> str:
    price = config.plan.price_per_gpu_hour
    return f"{hours:,.3g} GPU-hours" + ("" if price is None else f", cost {hours * price:,.2f}")


def _hardware(config: Config) -> str:
    return f"{config.plan.efficiency:.0%} of {config.plan.gpu_tflops:g} TFLOP/s (plan.efficiency, plan.gpu_tflops)"


@dataclass
class Samples:
    """Texts and counts of finished stages, read when they are first needed."""

    config: Config
    stages: Sequence[Stage]
    runner: Runner
    manifests: Manifests

    @property
    def there(self) -> bool:
        """Whether the sources stage is done."""
        return self.manifests.get("sources") is not None

    def score(self, name: str) -> "Work":
        """The pairs of one teacher."""
        from distill.plan.estimates import score_work

        queries = self._queries()
        pairs = queries * self.config.select.by.top_k
        return score_work(self._teacher(name), self.queries, self.passages, queries, pairs)

    def train(self) -> "Work":
        """Training the student. Translations are taken to be as long as the source passages."""
        from distill.plan.estimates import train_work

        config = self.config
        return train_work(config.train, config.student, config.mix, self.queries, self.passages)

    def index(self) -> "Work":
        """Encoding the passages in every language."""
        from distill.plan.estimates import index_work

        documents = self._rows("sources", "passages") * (1 + len(self.config.languages))
        return index_work(self.config.student, documents, self.passages)

    def translate(self) -> "Work":
        """Translating the passages into the languages in which the source does not have them, an equal share of each."""
        from distill.plan.estimates import Work, translate_work
        from distill.translate.settings import ModelTranslator

        engine, languages = self.config.translate.engine, self.config.languages
        if not isinstance(engine, ModelTranslator):
            return Work(0, 0.0, 0.0)
        missing = self._rows("sources", "passages") - self._rows("sources", "parallel") // len(languages)
        return translate_work(engine, self.passages, dict.fromkeys(languages, max(0, missing)))

    @cached_property
    def queries(self) -> list[str]:
        """Texts of training queries."""
        found = self._sample("queries", ["lang", "text"])
        lang = self.config.score.query_lang or self.config.source_lang
        return [row["text"] for row in found.to_pylist() if row["lang"] == lang]

    @cached_property
    def passages(self) -> list[str]:
        """Texts of passages in the source language."""
        from distill.text import passage_texts

        return passage_texts(self._sample("passages", ["title", "text"]))

    def _sample(self, table: str, columns: Sequence[str]) -> "pa.Table":
        from cluster.stored_table import StoredTable
        from distill.plan.estimates import sample

        filesystem, root = open_storage(self.runner.storage)
        (folder,) = (stage.folder for stage in self.stages if stage.name == "sources")
        return sample(StoredTable.open(filesystem, f"{root}/{folder}/{table}"), self.config.plan.sample, columns)

    def _rows(self, stage: str, table: str) -> int:
        tables = (self.manifests[stage] or {})["tables"]
        return tables.get(table, {}).get("rows", 0)

    def _queries(self) -> int:
        selected = self.manifests.get("select")
        return selected["rows"] if selected else self._rows("sources", "queries")

    def _teacher(self, name: str) -> SingleTeacher:
        teacher = self.config.score.teacher
        return teacher.teachers[int(name.partition("_")[2])] if isinstance(teacher, EnsembleTeacher) else teacher
