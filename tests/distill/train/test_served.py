"""The score that is trained is the score that the student is searched with, for every way from texts to vectors."""

from pathlib import Path

import pytest
import torch

from distill.encoders.checkpoints import cut, load_encoder, save_encoder
from distill.encoders.encoder import Encoder
from distill.encoders.late_interaction import LateInteractionEncoder
from distill.encoders.settings import Pooling
from distill.encoders.single_vector import SingleVectorEncoder, SingleVectorSettings
from distill.index.exact import ExactIndex
from distill.train.batches import Example, make_batch
from distill.train.loss_settings import CrossEntropyLoss
from distill.train.objective import Objective
from distill.train.settings import TrainSettings
from distill.train.trainer import Trainer
from distill.train.worker import objective_for

QUERIES = ["honey", "stone bridge", "city map light"]
PASSAGES = ["bee dance", "bridge river of stone", "light wave in the city", "sun angle food"]
LOSS = CrossEntropyLoss(scale=0.5)


def trained_scores(encoder: Encoder, sizes: tuple[int, ...]) -> list[torch.Tensor]:
    """Return the scores of every query with every passage that the loss of a step sees, at each size."""
    found: list[torch.Tensor] = []
    rows = [Example(query, query, PASSAGES, PASSAGES, [None] * len(PASSAGES)) for query in QUERIES]
    batch = make_batch(encoder, rows, 12)
    settings = TrainSettings(loss=LOSS, batch_size=len(rows), steps=1, learning_rate=1e-9)
    objective = objective_for(encoder, LOSS, sizes)

    class Seen(Objective):
        def _at(self, vectors, factors):  # noqa: ANN001, ANN202
            found.append(vectors.scores.detach().clone())
            return super()._at(vectors, factors)

    objective.__class__ = Seen
    trainer = Trainer(encoder, encoder, settings, objective, 0)
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    encoder.backbone.config.attention_probs_dropout_prob = 0.0
    trainer.train_step([batch])
    encoder.eval()
    return found


def served_scores(encoder: Encoder) -> torch.Tensor:
    """Return the scores that a search in an index of the passages gives."""
    index = ExactIndex.build(PASSAGES, encoder.encode_passages(PASSAGES), dtype=torch.float32)
    scores = torch.empty(len(QUERIES), len(PASSAGES))
    for row, hits in enumerate(index.search(encoder.encode_queries(QUERIES), k=len(PASSAGES))):
        for hit in hits:
            scores[row, hit.position] = hit.score
    return scores


@pytest.mark.parametrize("sizes", [(), (8,), (4, 8, 24)])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken", "max"])
def test_single_vectors(
    tiny_student: Path, tmp_path: Path, pooling: Pooling, sizes: tuple[int, ...], *, normalize: bool
) -> None:
    parts = load_encoder(tiny_student)
    settings = SingleVectorSettings(pooling, normalize, query_prefix="query: ")
    encoder = SingleVectorEncoder(parts.backbone, parts.tokenizer, settings)
    trained = trained_scores(encoder, sizes)
    assert len(trained) == max(1, len(sizes))
    for size, scores in zip(sizes or (encoder.dim,), trained, strict=True):
        save_encoder(cut(encoder, size), tmp_path / str(size))
        served = served_scores(load_encoder(tmp_path / str(size)))
        assert torch.allclose(scores, served, rtol=1e-5, atol=1e-5)
        assert bool((served.abs() <= 1 + 1e-5).all()) == normalize


def test_late_interaction(tiny_student: Path) -> None:
    encoder = load_encoder(tiny_student)
    assert isinstance(encoder, LateInteractionEncoder)
    [scores] = trained_scores(encoder, ())
    assert torch.allclose(scores, served_scores(encoder), rtol=1e-5, atol=1e-5)
