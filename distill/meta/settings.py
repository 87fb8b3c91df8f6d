"""Settings of meta-learning: sources of parallel examples, meta-tasks, training and evaluation."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from cluster.settings import GroupSettings, PoolSettings, Settings
from distill.meta.tasks.transfers import Mode, Transfer, check_mode, derived, of_mode
from distill.settings.base import Language

Kind = Literal["retrieval", "similarity"]
"""Questions and their answers, or pairs of sentences with graded scores."""
MetaMethod = Literal["zero_shot", "fine_tune", "maml", "maml_align"]
Baseline = Literal["zero_shot", "fine_tune", "maml"]


class BundledQuestions(Settings):
    """The questions of the bundled corpus and their passages, in seven languages. A cluster of four passages is an article."""

    type: Literal["bundled"] = "bundled"
    kind: ClassVar[Kind] = "retrieval"


class LareqaQuestions(Settings):
    """LAReQA (arXiv 2004.05484) in its official layout: a folder with a file `{language}.json` for every language.

    Files are those of SQuAD with `sentence_breaks` in each paragraph. A sentence is a candidate; the one in which the answer starts answers
    the question.
    """

    type: Literal["lareqa"] = "lareqa"
    kind: ClassVar[Kind] = "retrieval"
    path: str
    """The folder (`xquad-r` or `mlqa-dev-r`), local or s3://."""
    context: bool = False
    """Make a candidate's text its sentence and then, without a separator, its whole paragraph (the code of arXiv 2309.08185)."""


class QuestionFiles(Settings):
    """Your own questions and candidates, as JSONL (optionally .gz)."""

    type: Literal["questions"] = "questions"
    kind: ClassVar[Kind] = "retrieval"
    questions: str
    """File of questions: `query_id`, `xling_id` (the same for a question in all languages), `lang`, `text`, `article`."""
    candidates: str
    """File of candidates: `cand_id`, `lang`, `sentence`, `article`."""
    qrels: str
    """TREC qrels (question, 0, candidate, grade); a grade above 0 is an answer. One language version of a question is enough."""
    split_field: str | None = None
    """Field of both files with `train`, `dev` or `test`; needed if `tasks.folds` is null."""


class SentencePairFiles(Settings):
    """Sentence pairs with graded scores, as JSONL (optionally .gz), parallel in several languages.

    Each row has `id`, `score`, and in `s1` and `s2` the two sentences by language (`{"en": ..., "de": ...}`).
    """

    type: Literal["sentence_pairs"] = "sentence_pairs"
    kind: ClassVar[Kind] = "similarity"
    train: str
    """File of the pairs that support sets are drawn from."""
    dev: str
    """File of the pairs that query sets are drawn from."""
    test: str
    """File of the pairs that are evaluated."""
    max_score: float = Field(default=5.0, gt=0)
    """The highest score that the scale has; scores are divided by it (5: STS benchmark; 1: scores from 0 to 1). A score above it is an
    error, and so is a file without a score in the upper half, unless this is set."""


MetaSource = Annotated[
    BundledQuestions | LareqaQuestions | QuestionFiles | SentencePairFiles, Field(discriminator="type")
]


class TaskSettings(Settings):
    """Meta-tasks: a support set, a query set, and for MAML-Align a second query set, each in languages of its own."""

    execution: ClassVar[frozenset[str]] = frozenset({"pool"})
    mode: Mode = "mono_bi_multi"
    """The languages that a task transfers from and to. In the notation `support-query`, each `question_candidates`, with a, b, c three
    languages in a row:

    - `mono_mono`: a_a-b_b
    - `mono_bi`: a_a-a_b
    - `mono_multi`: a_a-a_b,a
    - `bi_multi`: a_b-a_b,a
    - `mixed`: tasks of all four, in turn
    - `trans`: tasks of mono_bi, then of bi_multi (T-MAML)
    - `mono_bi_multi`: a_a-a_b-a_b,a,c, the chain of MAML-Align"""
    transfers: tuple[str, ...] = ()
    """Transfers in that notation (`el_el-el_ar`, `hi_hi-hi_de`), of the mode and of all `baseline_modes`: each system takes those of its
    own mode. If empty, they are made of `languages`, each in turn being a."""
    tasks: int = Field(default=7000, ge=1)
    """Tasks in all, the transfers in turn (7,000: the code of arXiv 2309.08185)."""
    shots: int = Field(default=3, ge=1)
    """Triplets, or sentence pairs, of a support set (3; 8 for pairs: the code of arXiv 2309.08185)."""
    queries: int = Field(default=3, ge=1)
    """Triplets, or sentence pairs, of each query set (3; 4 for pairs: the same)."""
    negatives: Literal["random", "hard", "semi_hard", "easy"] = "random"
    """The negative of a triplet, a candidate of another question in the positive's language: a random one (random), the one most like the
    question (hard), the most like it of those less like it than the positive (semi_hard), the least like it (easy). Likeness is that of the
    encoder before training."""
    query_set: Literal["random", "similar"] = "random"
    """The questions of a query set: any others (random), or those like the support set's (similar): the support questions' own translations
    if languages differ, then their nearest neighbours by the encoder before training. In the paper random ones are better."""
    neighbours: int = Field(default=5, ge=1)
    """Nearest neighbours of a support question that a similar query set is drawn from (5: the code of arXiv 2309.08185)."""
    folds: int | None = Field(default=5, ge=2)
    """Folds of a cross-validation by article. If null, the source's own split is used, as it always is for sentence pairs."""
    fold_seed: int | None = None
    """Seed of the order in which articles are dealt to folds; if null, the job's `seed`. With it, jobs of several seeds have the same
    folds."""
    run_folds: tuple[int, ...] = ()
    """The folds, from 0, that are trained and evaluated. If empty, all are."""
    tasks_per_shard: int = Field(default=1000, ge=1)
    """Tasks in a shard, the unit of commit and retry."""
    pool: PoolSettings = PoolSettings()
    """The actors that make tasks."""

    @model_validator(mode="after")
    def _folds_exist(self) -> "TaskSettings":
        most = self.folds or 1
        wrong = [fold for fold in self.run_folds if not 0 <= fold < most]
        if wrong or len(set(self.run_folds)) < len(self.run_folds):
            raise ValueError(f"run_folds {list(self.run_folds)}: name each fold once, from 0 to {most - 1}")
        return self

    @model_validator(mode="after")
    def _transfers_fit(self) -> "TaskSettings":
        parsed = [Transfer.parse(text) for text in self.transfers]
        if parsed:
            check_mode(self.mode, of_mode(self.mode, parsed) or parsed)
        return self

    @model_validator(mode="after")
    def _neighbours_suffice(self) -> "TaskSettings":
        if self.query_set == "similar" and self.neighbours < self.queries:
            raise ValueError(
                f"neighbours {self.neighbours} is less than queries {self.queries}: a similar query set may find no more than those"
            )
        return self

    @property
    def needs_vectors(self) -> bool:
        """True if tasks are made by the vectors of the encoder before training."""
        return self.query_set == "similar" or self.negatives != "random"

    def wanted_folds(self, kind: Kind) -> tuple[int, ...]:
        """Return the folds that are run; a source with its own split is one fold, number 0."""
        most = 1 if kind == "similarity" or self.folds is None else self.folds
        return self.run_folds or tuple(range(most))

    def wanted_transfers(self, languages: tuple[str, ...], mode: Mode | None = None) -> tuple[Transfer, ...]:
        """Return the transfers of a mode (of the setting if None), in the order in which tasks take turns.

        Raises:
            ValueError: transfers are named and none, or too few, are of the mode; or too few languages for it.
        """
        mode = mode or self.mode
        if not self.transfers:
            return derived(mode, languages)
        chosen = of_mode(mode, [Transfer.parse(text) for text in self.transfers])
        if not chosen:
            raise ValueError(
                f"tasks.transfers names no transfer of mode {mode}, which a system of the job has; add some, or take the mode out of "
                "baseline_modes"
            )
        check_mode(mode, chosen)
        return chosen


class MetaTrainSettings(GroupSettings):
    """The training of the encoder on the tasks."""

    execution: ClassVar[frozenset[str]] = frozenset({"max_failures", "prefetch"})
    order: Literal["first", "second"] = "first"
    """Order of the outer gradients: they ignore (first) or pass through (second) the inner ones (first: the code of arXiv 2309.08185)."""
    inner_steps: int = Field(default=5, ge=1)
    """Gradient steps on a support set (5: the code of arXiv 2309.08185)."""
    inner_rate: float = Field(default=1e-3, gt=0)
    """Learning rate of those steps (1e-3: the same)."""
    variant: Literal["paper", "released_code"] = "paper"
    """MAML-Align's student and distillation, if the two settings below are null:

    - `paper`: the student, too, adapts on its support set; the distillation loss is the mean over tasks of the squared difference of the
      two learners' losses on the bilingual set.
    - `released_code`: the student does not adapt (0 inner steps); the distillation loss is the squared difference of the losses' sums over
      the tasks of a step."""
    student_inner_steps: int | None = Field(default=None, ge=0)
    """Inner steps of MAML-Align's student. If null, the variant decides."""
    distillation: Literal["mean", "sum"] | None = None
    """Comparison of the two learners' losses: for each task, then the mean (mean), or of their sums over a step's tasks (sum). If null, the
    variant decides."""
    distillation_weight: float = Field(default=0.5, ge=0)
    """Lambda, the factor of the distillation loss (0.5: the code of arXiv 2309.08185)."""
    margin: float = Field(default=1.0, gt=0)
    """Margin of the triplet loss (1: the same)."""
    learning_rate: float = Field(default=5e-5, gt=0)
    """AdamW learning rate of the outer steps, and of fine-tuning (5e-5: the same)."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW weight decay (0: the same)."""
    tasks_per_batch: int = Field(default=4, ge=1)
    """Tasks in an outer step, over all workers (4: the same)."""
    steps: int = Field(default=3500, ge=1)
    """Outer steps; tasks are read again from the start when they run out (7,000 tasks, 4 a step, 2 epochs: 3,500)."""
    checkpoint_every: int = Field(default=100, ge=1)
    """Steps between checkpoints."""
    log_every: int = Field(default=10, ge=1)
    """Steps between lines of the training log, each the mean over its steps."""
    prefetch: int = Field(default=4, ge=1)
    """Steps whose tasks are read and tokenised ahead."""

    @model_validator(mode="after")
    def _shares(self) -> "MetaTrainSettings":
        if self.tasks_per_batch < self.most_workers:
            raise ValueError(
                f"tasks_per_batch {self.tasks_per_batch} is less than the {self.most_workers} workers: each needs a task"
            )
        if self.checkpoint_every % self.log_every:
            raise ValueError(
                f"checkpoint_every {self.checkpoint_every} is not a multiple of log_every {self.log_every}"
            )
        return self

    @property
    def adapting_steps(self) -> int:
        """Inner steps of MAML-Align's student."""
        if self.student_inner_steps is not None:
            return self.student_inner_steps
        return self.inner_steps if self.variant == "paper" else 0

    @property
    def sums_losses(self) -> bool:
        """True if distillation compares sums over the tasks."""
        return (self.distillation or ("mean" if self.variant == "paper" else "sum")) == "sum"


class MetaEvaluateSettings(Settings):
    """Evaluation: every test question against the candidates of all languages, or every test pair in all pairs of languages."""

    execution: ClassVar[frozenset[str]] = frozenset({"pool"})
    languages: tuple[Language, ...] = ()
    """Languages of the questions and of the pool. If empty, all of the source."""
    depth: int = Field(default=20, ge=1)
    """Candidates that are ranked: the k of mAP@k (20: the paper)."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Level of the confidence intervals."""
    tokens_per_batch: int = Field(default=16_384, ge=64)
    """Padded tokens in a batch."""
    texts_per_shard: int = Field(default=10_000, ge=1)
    """Texts in a shard, the unit of commit and retry."""
    pool: PoolSettings = PoolSettings()
    """The actors that encode."""
