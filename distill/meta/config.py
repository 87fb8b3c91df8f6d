"""The configuration of jobs/maml_align.py. Nothing here imports torch or ray."""

from pydantic import Field, model_validator

from distill.encoders.settings import SingleVectorStudent, StudentSettings
from distill.meta.settings import (
    Baseline,
    BundledQuestions,
    MetaEvaluateSettings,
    MetaMethod,
    MetaSource,
    MetaTrainSettings,
    TaskSettings,
)
from distill.meta.tasks.transfers import Mode, lacking_room
from distill.settings.base import Language
from distill.settings.load import JobConfig


class MetaConfig(JobConfig):
    """Adapting a multilingual encoder to languages with a handful of examples each, by meta-learning."""

    name: str = Field(default="maml_align", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run and of its folder."""
    method: MetaMethod = "maml_align"
    """The way in which the encoder learns.

    - `maml_align`: a teacher that transfers from one language to two is distilled into a student that transfers from two to many
      (arXiv 2309.08185); `tasks.mode` is `mono_bi_multi`.
    - `maml`: model-agnostic meta-learning (arXiv 1703.03400) on the tasks of any other mode; with `trans` it is the paper's T-MAML.
    - `fine_tune`: the same tasks, each set in turn, without the meta loop.
    - `zero_shot`: no training: the encoder as it is."""
    baselines: tuple[Baseline, ...] = ("zero_shot", "fine_tune")
    """Systems to compare with: the encoder as it is, fine-tuning on the method's own tasks, MAML in each of `baseline_modes`."""
    baseline_modes: tuple[Mode, ...] = ("mono_bi",)
    """The transfer modes of the baseline `maml`."""
    languages: tuple[Language, ...] = ("de", "fr", "es")
    """The languages with examples, of which tasks are made: those that are seen in training. If there are `tasks.transfers`, they name all
    of them and no other."""
    source: MetaSource = BundledQuestions()
    """Questions with answers, or sentence pairs with graded scores, in several languages."""
    tasks: TaskSettings = TaskSettings()
    """Meta-tasks."""
    student: StudentSettings = SingleVectorStudent(query_tokens=96, passage_tokens=256)
    """The encoder (mean pooling, questions of 96 and candidates of 256 tokens: the code of arXiv 2309.08185)."""
    train: MetaTrainSettings = MetaTrainSettings()
    """Meta-training."""
    evaluate: MetaEvaluateSettings = MetaEvaluateSettings()
    """Evaluation."""

    @model_validator(mode="after")
    def _agrees(self) -> "MetaConfig":
        chain = self.tasks.mode == "mono_bi_multi"
        if self.method == "maml_align" and not chain:
            raise ValueError(
                f"method 'maml_align' needs tasks.mode 'mono_bi_multi', tasks of three sets; tasks.mode is '{self.tasks.mode}'"
            )
        if self.method == "maml" and chain:
            raise ValueError(
                "method 'maml' takes tasks of two sets, but those of tasks.mode 'mono_bi_multi' have three; choose another mode"
            )
        if "maml" in self.baselines and "mono_bi_multi" in self.baseline_modes:
            raise ValueError("baseline_modes holds 'mono_bi_multi', whose tasks have three sets; MAML takes two")
        if "maml" in self.baselines and not self.baseline_modes:
            raise ValueError("the baseline 'maml' needs baseline_modes")
        if self.source.kind == "similarity" and self.tasks.needs_vectors:
            raise ValueError(
                f"tasks.query_set '{self.tasks.query_set}' with tasks.negatives '{self.tasks.negatives}': sentence pairs have neither "
                "similar query sets nor negatives, because their scores grade similarity; set both to 'random'"
            )
        for mode in dict.fromkeys(self.modes.values()):
            self._check_transfers(mode)
        return self

    def _check_transfers(self, mode: Mode) -> None:
        """Check that the transfers of a mode are of all `languages` and no other, and that sets have room for their languages."""
        transfers = self.tasks.wanted_transfers(self.languages, mode)
        used = {lang for transfer in transfers for lang in transfer.languages}
        if strange := sorted(used - set(self.languages)):
            raise ValueError(
                f"tasks.transfers of mode {mode} name {', '.join(strange)}, which languages {list(self.languages)} does not hold: results "
                "would count them as unseen"
            )
        if absent := [lang for lang in self.languages if lang not in used]:
            raise ValueError(
                f"languages names {', '.join(absent)}, and no transfer of mode {mode} in tasks.transfers does: results would count them "
                "as seen"
            )
        for transfer in transfers:
            if fault := lacking_room(transfer, self.tasks.shots, self.tasks.queries):
                raise ValueError(fault)

    @property
    def main(self) -> str:
        """The name of the system that the job is about."""
        return _system(self.method, self.tasks.mode)

    @property
    def systems(self) -> dict[str, MetaMethod]:
        """Every system's method, the job's own first."""
        systems: dict[str, MetaMethod] = {self.main: self.method}
        for baseline in self.baselines:
            for mode in self.baseline_modes if baseline == "maml" else (self.tasks.mode,):
                systems.setdefault(_system(baseline, mode), baseline)
        return systems

    @property
    def modes(self) -> dict[str, Mode]:
        """The transfer mode of every system that is trained."""
        baseline: dict[str, Mode] = {_system("maml", mode): mode for mode in self.baseline_modes}
        return {
            name: self.tasks.mode if name == self.main or method != "maml" else baseline[name]
            for name, method in self.systems.items()
            if method != "zero_shot"
        }


def _system(method: MetaMethod, mode: Mode) -> str:
    return f"maml_{mode}" if method == "maml" else method
