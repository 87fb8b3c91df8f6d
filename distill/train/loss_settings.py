"""Losses of the student. Each is a function of `distill.train.losses`, with its equation there."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from cluster.settings import Settings


class _Loss(Settings):
    """The base of all losses."""

    needs_teacher: ClassVar[bool] = False
    """The loss reads the teacher's scores."""
    needs_positive: ClassVar[bool] = False
    """The first passage of every example must be relevant to its query."""
    weight: float = Field(default=1.0, gt=0)
    """Factor on this loss."""

    @property
    def words(self) -> str:
        """The loss in words, for the model card."""
        raise NotImplementedError


class KlLoss(_Loss):
    """Kullback-Leibler divergence between the teacher's and the student's distribution over an example's passages."""

    needs_teacher: ClassVar[bool] = True
    type: Literal["kl"] = "kl"
    direction: Literal["teacher_student", "student_teacher"] = "teacher_student"
    """KL(teacher || student), as the released models were trained, or the reverse."""
    teacher_scale: float = Field(default=1.0, gt=0)
    """Factor on the scores that examples hold; the larger, the more of the teacher's distribution is on its best passages (1: the papers,
    whose teachers give log-probabilities; PLAID-X calls it `distillation_alpha`; about 20 for cosines). This is the setting to turn;
    `score.calibration.temperature` changes the scores themselves."""
    student_scale: float = Field(default=1.0, gt=0)
    """Factor on the student's scores (1: the papers, on raw MaxSim)."""

    @property
    def words(self) -> str:
        """The loss in words, for the model card."""
        sides = "teacher ‖ student" if self.direction == "teacher_student" else "student ‖ teacher"
        scales = f"{self.teacher_scale:g} (teacher) and {self.student_scale:g} (student)"
        return f"KL({sides}) over the passages of an example, on raw scores times {scales}"


class MarginMseLoss(_Loss):
    """Squared error of score margins (arXiv 2010.02666)."""

    needs_teacher: ClassVar[bool] = True
    type: Literal["margin_mse"] = "margin_mse"
    pairs: Literal["first", "all"] = "first"
    """Margins of the first passage to each other one, as for a positive and its negatives, or of all pairs of passages."""
    teacher_scale: float = Field(default=1.0, gt=0)
    """Factor on the teacher's scores: margins are matched in absolute size, so both sides need one unit."""
    student_scale: float = Field(default=1.0, gt=0)
    """Factor on the student's scores."""

    @property
    def words(self) -> str:
        """The loss in words, for the model card."""
        return f"squared error of the score margins of {'the first passage' if self.pairs == 'first' else 'all pairs'}"


class CrossEntropyLoss(_Loss):
    """Cross-entropy of the positive among an example's own passages: Translate-Train."""

    needs_positive: ClassVar[bool] = True
    type: Literal["cross_entropy"] = "cross_entropy"
    scale: float = Field(default=1.0, gt=0)
    """Factor on the student's scores (1: ColBERT-X on raw MaxSim; about 20 for cosines)."""

    @property
    def words(self) -> str:
        """The loss in words, for the model card."""
        return "cross-entropy of the positive among the passages of an example"


class InfoNceLoss(_Loss):
    """Cross-entropy of the positive among all passages of the batch."""

    needs_positive: ClassVar[bool] = True
    type: Literal["info_nce"] = "info_nce"
    scale: float = Field(default=1.0, gt=0)
    """Factor on the student's scores (about 20 for cosines, 1 for MaxSim)."""
    across_workers: bool = False
    """Take passages of the other workers' shares as negatives too. Their vectors are gathered, with gradients."""

    @property
    def words(self) -> str:
        """The loss in words, for the model card."""
        where = "the batch on all workers" if self.across_workers else "a worker's share of the batch"
        return f"cross-entropy of the positive among all passages of {where}"


class LanguageLoss(_Loss):
    """Cross-language regulariser of PLAID-X 0.3.3: the score distributions of an entry's languages are drawn to each other."""

    type: Literal["language"] = "language"

    @property
    def words(self) -> str:
        """The loss in words, for the model card."""
        return "divergence of the scores of an example's languages"


class RelevanceMarginLoss(_Loss):
    """Self-distillation with adaptive relevance margins (arXiv 2407.21515). Examples hold a positive and one negative."""

    needs_positive: ClassVar[bool] = True
    type: Literal["relevance_margin"] = "relevance_margin"
    margin: Literal["static", "adaptive", "distributed"] = "distributed"
    """The target of a margin: `tau`; the similarity of the triple's own two passages; those of every positive and every negative of
    the batch."""
    in_batch: bool = False
    """Count margins to the negatives of all triples (static and adaptive only)."""
    tau: float = 0.3
    """The static margin (0.3: the authors' for MPNet; 0.2 DistilBERT, 0.1 RoBERTa; 0.6, 0.2, 0.1 in batch)."""
    error: Literal["squared", "absolute", "soft"] = "squared"
    """The error of a difference: its square, its size, or log(1 + exp(-difference))."""
    alignment: Literal["code", "equation"] = "code"
    """The pairs of positive and margin in the matrices of the distributed and in-batch forms: as the released code broadcasts them, or
    row by row as the equations are written."""
    detach_targets: bool = False
    """Take targets as constants. The released code lets gradients flow through them."""

    @model_validator(mode="after")
    def _each_counts(self) -> "RelevanceMarginLoss":
        """Raise a ValueError for what the chosen margin would not read."""
        matrix = self.in_batch or self.margin == "distributed"
        unread = {
            "in_batch": self.in_batch and self.margin == "distributed",
            "tau": self.tau != type(self).model_fields["tau"].default and self.margin != "static",
            "alignment": self.alignment != "code" and not matrix,
            "detach_targets": self.detach_targets and self.margin == "static",
        }
        if names := [name for name, found in unread.items() if found]:
            batch = " in batch" if self.in_batch else ""
            verb, them = ("does", "it") if len(names) == 1 else ("do", "them")
            raise ValueError(
                f"{' and '.join(names)} {verb} nothing with margin '{self.margin}'{batch}; leave {them} out, or choose another"
            )
        return self

    @property
    def words(self) -> str:
        """The loss in words, for the model card."""
        return f"{self.margin} relevance margins, {self.error} error"


RankingLoss = KlLoss | MarginMseLoss | CrossEntropyLoss | InfoNceLoss | RelevanceMarginLoss
"""The losses that teach relevance: each can be the only one."""
AnyLoss = RankingLoss | LanguageLoss
SingleLoss = Annotated[AnyLoss, Field(discriminator="type")]


class SumLoss(Settings):
    """A weighted sum."""

    type: Literal["sum"] = "sum"
    losses: tuple[SingleLoss, ...] = Field(min_length=1)
    """The summands, each with its `weight`."""

    @property
    def needs_teacher(self) -> bool:
        """True if a summand reads the teacher's scores."""
        return any(loss.needs_teacher for loss in self.losses)

    @property
    def needs_positive(self) -> bool:
        """True if a summand needs a positive as first passage."""
        return any(loss.needs_positive for loss in self.losses)

    @model_validator(mode="after")
    def _trains(self) -> "SumLoss":
        if all(isinstance(loss, LanguageLoss) for loss in self.losses):
            raise ValueError("a language loss alone says nothing of relevance; add another loss to the sum")
        return self


LossSettings = Annotated[RankingLoss | SumLoss, Field(discriminator="type")]


def summands(loss: LossSettings) -> tuple[AnyLoss, ...]:
    """Return the losses that a loss is the sum of; any other than a sum is the only one."""
    return loss.losses if isinstance(loss, SumLoss) else (loss,)
