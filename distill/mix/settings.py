"""Settings of the mix stage: training examples."""

from typing import Literal

from pydantic import Field, model_validator

from cluster.settings import Settings
from distill.formats.settings import ImportedExamples, PylateExamples
from distill.settings.base import Language


class NegativeSettings(Settings):
    """The candidates that an example may be drawn from.

    A judged passage is one with a grade above 0. The positives of a query are those of its judged passages with a score that have the
    highest grade; its negatives are the candidates that are not judged relevant. Where documents are judged, the positive is the
    best-scored candidate of a relevant document (without a teacher the selector's first), and the document's other passages are neither
    positives nor negatives. Scores are those that examples hold, after temperature and
    scale.
    """

    first_rank: int = Field(default=1, ge=1)
    """Skip negatives that the selector ranked before this (1 skips none). The first ones are often relevant without being judged."""
    last_rank: int | None = Field(default=None, ge=1)
    """Skip negatives that the selector ranked after this."""
    margin: float | None = Field(default=None, ge=0)
    """Drop negatives that score higher than the positive's score minus this; of several positives the lowest counts. 0 leaves those that
    score at most as high as the positive."""
    relative_margin: float | None = Field(default=None, ge=0, le=1)
    """The same with a margin of this share of the positive's score, its sign aside (0.05: NV-Retriever, arXiv 2407.15831). For cosines;
    of log-odds near 0 a share is tiny."""
    min_score: float | None = None
    """Drop negatives that score lower: they are too easy."""
    max_score: float | None = None
    """Drop negatives that score higher: the teacher takes them for relevant."""
    include_positive: bool = True
    """Each example holds one of the query's positives, drawn at random, and n - 1 negatives. If false, n passages are drawn from
    judged passages and negatives alike."""

    @model_validator(mode="after")
    def _ranges(self) -> "NegativeSettings":
        if self.last_rank is not None and self.last_rank < self.first_rank:
            raise ValueError(f"last_rank {self.last_rank} is before first_rank {self.first_rank}")
        if self.min_score is not None and self.max_score is not None and self.min_score > self.max_score:
            raise ValueError(f"min_score {self.min_score:g} is above max_score {self.max_score:g}")
        return self


class MixSettings(Settings):
    """The mix stage: n-way examples from scores and translations (arXiv 2405.00977)."""

    strategy: Literal["mix_passages", "mix_entries", "round_robin", "single"] = "mix_passages"
    """Languages within an example: each passage its own draw; one draw for all; every language in turn; only `language`."""
    languages: tuple[Language, ...] = ()
    """Languages to draw from; if empty, the job's `languages`."""
    language: Language | None = None
    """The one language of `single` (Translate-Distill, arXiv 2401.04810)."""
    query_lang: Language | None = None
    """Language in which the student reads queries; if None, `source_lang`. A query without a text in it is rejected."""
    n_way: int = Field(default=6, ge=2)
    """Passages in an example, drawn from the candidates (6 of 50: the released models)."""
    sampling: Literal["random", "first", "beta", "pairs"] = "random"
    """The draw of n of the candidates. `random`: uniformly, as the released models. `first`: the first n in the stored order (PLAID-X:
    `--only_top`). `beta`: a curriculum towards the first ones, see `max_beta`. `pairs`: one positive and one negative, another pair of the
    query in every epoch (adaptive relevance margins, arXiv 2407.21515); queries with fewer than `epochs` pairs are rejected."""
    max_beta: float = Field(default=1.0, ge=1)
    """With `beta`, the candidate at position i of m is drawn with weight Beta(1, 1 + p (max_beta - 1)) at i / m; p goes from 0 to 1 over
    all examples. 1 is uniform throughout (PLAID-X: `sampling_max_beta`)."""
    draw_from: int | None = Field(default=None, ge=2)
    """Draw from this many candidates, best first; if None, from all of them."""
    shared_draws: int = Field(default=1, ge=1)
    """Consecutive queries that share a random state: they draw the same positions of their candidate lists, and the same languages. With
    1 each has its own; with the number of GPUs draws are as in PLAID-X 0.3.3, whose processes all start from one seed."""
    negatives: NegativeSettings | None = None
    """Options that leave out candidates; if None, all are drawn alike, as the papers do. Queries that have too few left are rejected."""
    group: int = Field(default=1, ge=1)
    """Queries that share their passages: each is scored against all that were drawn for its group (in-batch distillation). No passage is
    drawn twice for a group, in whatever language; where candidates do not suffice for that, it counts once all the same. Every pair of a
    group needs a score of the teacher, hence a `select.by.top_k` of the size of the collection, or `missing: mask`."""
    missing: Literal["error", "mask"] = "error"
    """Treatment of pairs of a group that the teacher has not scored: `error` stops the job, `mask` leaves them out of the loss. Those of a
    query's own passages always have scores."""
    epochs: int = Field(default=1, ge=1)
    """Passes over the training queries, each with draws of its own."""
    queries: int | None = Field(default=None, ge=1)
    """Training queries at most, drawn at random from those that examples can be made of; if None, all."""
    imported: ImportedExamples | None = None
    """Candidates, scores and texts of other tools' files instead of the job's own: `jobs/train.py` then runs the stages mix and train
    alone."""

    @model_validator(mode="after")
    def _languages_of_strategy(self) -> "MixSettings":
        if (self.strategy == "single") != (self.language is not None):
            raise ValueError(
                f"strategy '{self.strategy}' with language {self.language!r}: 'single' needs a language, the others take none"
            )
        if len(set(self.languages)) != len(self.languages):
            raise ValueError(f"languages {list(self.languages)} names a language twice")
        return self

    @model_validator(mode="after")
    def _sampling_is_possible(self) -> "MixSettings":
        if self.draw_from is not None and self.draw_from < self.n_way:
            raise ValueError(f"draw_from {self.draw_from} is less than n_way {self.n_way}")
        if self.draw_from is not None and self.sampling == "first":
            raise ValueError(f"draw_from {self.draw_from} with sampling 'first', which takes the first {self.n_way}")
        if (self.max_beta > 1) != (self.sampling == "beta"):
            raise ValueError(
                f"max_beta {self.max_beta:g} with sampling '{self.sampling}': 'beta' needs one above 1, the others take none"
            )
        if self.sampling == "pairs" and self.n_way != 2:
            raise ValueError(f"sampling 'pairs' with n_way {self.n_way}: a positive and a negative are 2")
        if self.sampling == "pairs" and self.shared_draws > 1:
            raise ValueError(
                f"shared_draws {self.shared_draws} with sampling 'pairs', which goes through each query's own pairs"
            )
        return self

    @model_validator(mode="after")
    def _import_is_possible(self) -> "MixSettings":
        if self.negatives is not None and self.imported is not None:
            raise ValueError(
                "negatives with imported: there are no judgements to tell positives by; choose them before"
            )
        if self.strategy == "round_robin" and self.imported is not None and not self.translates_imported:
            raise ValueError(
                "strategy 'round_robin' with imported: only `imported.translations` give passages in several languages"
            )
        return self

    @model_validator(mode="after")
    def _group_is_possible(self) -> "MixSettings":
        if self.group > 1 and self.strategy == "round_robin":
            raise ValueError(
                f"group {self.group} with strategy 'round_robin', whose examples repeat in every language; group them by batch_size"
            )
        if self.group > 1 and self.negatives is not None:
            raise ValueError(
                f"group {self.group} with negatives: a group's queries share all that was drawn for them, so no choice would hold"
            )
        if self.missing == "mask" and self.group == 1:
            raise ValueError("missing 'mask' with group 1: a query's own passages always have scores")
        return self

    def unit(self, languages: int) -> int:
        """Return how many examples in a row belong together: a group's queries, or an entry's versions in each of the drawn `languages`."""
        return languages if self.strategy == "round_robin" else self.group

    @property
    def translates_imported(self) -> bool:
        """True if imported passages come in several languages, of which `strategy` draws."""
        return isinstance(self.imported, PylateExamples) and bool(self.imported.translations)
