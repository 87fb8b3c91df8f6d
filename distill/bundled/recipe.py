"""Parallel text and an English sentence encoder in, an untrained multilingual student out."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import ElectraConfig, ElectraModel, PreTrainedTokenizerBase

from distill.bundled import contextual
from distill.bundled.embeddings import align, initial_embeddings, translation_counts
from distill.bundled.english import EnglishEncoder, principal_basis
from distill.bundled.parallel import Unit, weighted_texts
from distill.bundled.vocabulary import english_pieces, foreign_pieces, make_tokenizer, word_counts
from distill.encoders.checkpoints import save_encoder
from distill.encoders.late_interaction import EncoderSettings, LateInteractionEncoder

ENCODER = EncoderSettings(
    dim=128,
    query_tokens=32,
    passage_tokens=220,
    marker_mode="insert",
    mask_punctuation=True,
    attend_to_mask_tokens=False,
    query_expansion=False,  # [MASK] has no translation, hence no vector that would mean anything
)
LONGEST_TEXT = 300
POSITIONS = 320


@dataclass(frozen=True)
class Recipe:
    """The inputs of the student besides the text and the English encoder. The defaults are those of `bundled:student`.

    Attributes:
        english_pieces: pieces taken over from the English encoder.
        foreign_pieces: pieces learned from the other languages; those that are English pieces too count once.
        hidden: width of the student's layers.
        layers: how many there are.
        heads: attention heads.
        em_iterations: iterations of word alignment.
        alignment_steps: steps of contextual alignment; 0: none, the student is a table of word vectors to begin with.
        seed: seed of the new weights and of the draws in contextual alignment.
    """

    english_pieces: int = 17_000
    foreign_pieces: int = 24_000
    hidden: int = 192
    layers: int = 2
    heads: int = 6
    em_iterations: int = 1
    alignment_steps: int = 0
    seed: int = 12_345


def initialise(
    units: Sequence[Unit], teacher: Path, recipe: Recipe, report: Callable[[str], None]
) -> LateInteractionEncoder:
    """Make a student. Equal inputs give equal weights, bit for bit on one machine with one number of threads.

    Cost with the bundled passages, TICO-19 and the default recipe: 3 minutes of one CPU core and 3 GB of memory, most for the states of
    the English texts.

    Args:
        units: the parallel text.
        teacher: folder of the English sentence encoder.
        recipe: sizes and lengths.
        report: gets a line after each part.
    """
    english_texts = [unit.texts["en"] for unit in units]
    english = english_pieces(teacher, english_texts, recipe.english_pieces)
    foreign = foreign_pieces(word_counts(weighted_texts(units)), recipe.foreign_pieces)
    tokenizer = make_tokenizer([*english, *foreign], POSITIONS)
    size = len(tokenizer)
    report(f"{len(units)} units, {size} pieces")

    encoder = EnglishEncoder(teacher)
    texts = encoder.texts(english_texts, tokenizer, LONGEST_TEXT)
    alone = encoder.pieces(english)
    sample = torch.cat([*(torch.from_numpy(text.states) for text in texts), alone])
    basis = principal_basis(sample, ENCODER.dim)
    del sample
    report("states of the English texts and pieces")

    aligned = align(units, texts, tokenizer, LONGEST_TEXT, recipe.em_iterations)
    counts = translation_counts(units, texts, aligned, size)
    tokens, vectors = torch.tensor(tokenizer.convert_tokens_to_ids(english)), alone @ basis
    table = initial_embeddings(tokens, vectors, counts, size)
    report(f"words aligned, {len(counts.counts)} pairs of pieces")

    student = new_student(table, tokenizer, recipe)
    if recipe.alignment_steps:
        targets = contextual.examples(texts, aligned, basis.numpy())
        pieces = contextual.pieces_alone(tokens, vectors)
        contextual.train(student, targets, units, pieces, recipe.alignment_steps, recipe.seed, report)
    return student


def new_student(table: torch.Tensor, tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> LateInteractionEncoder:
    r"""Make an ELECTRA-shaped encoder (Clark et al., arXiv 2003.10555) whose output is nearly its embedding table.

    The embedding projection U has orthonormal columns and the output projection is its transpose, so the residual path gives
    :math:`U^T U x = x`; the new weights of attention and feed-forward layers are small beside it.
    """
    torch.manual_seed(recipe.seed)
    dim = table.shape[1]
    backbone = ElectraModel(
        ElectraConfig(
            vocab_size=len(table),
            embedding_size=dim,
            hidden_size=recipe.hidden,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            intermediate_size=4 * recipe.hidden,
            max_position_embeddings=POSITIONS,
            type_vocab_size=1,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            pad_token_id=0,
        )
    )
    projection = nn.Linear(recipe.hidden, dim, bias=False)
    orthonormal, _ = torch.linalg.qr(torch.randn(recipe.hidden, dim))
    with torch.no_grad():
        backbone.embeddings.word_embeddings.weight.copy_(table)
        backbone.embeddings.position_embeddings.weight.normal_(0.0, 0.02 / dim**0.5)
        backbone.embeddings.token_type_embeddings.weight.zero_()
        backbone.embeddings_project.weight.copy_(orthonormal)
        backbone.embeddings_project.bias.zero_()
        projection.weight.copy_(orthonormal.T)
    return LateInteractionEncoder(backbone, projection, tokenizer, ENCODER).eval()


def save(student: LateInteractionEncoder, folder: Path, recipe: Recipe) -> None:
    """Write a checkpoint with weights in float16, half the size; `load_encoder` computes in float32 again.

    artifact.metadata tells the recipe.
    """
    save_encoder(student, folder, {"recipe": asdict(recipe)})
    file = folder / "model.safetensors"
    save_file({name: value.half() for name, value in load_file(file).items()}, file, {"format": "pt"})
