import gzip
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import digamma
from transformers import AutoTokenizer

from cluster.locations import SourceError
from distill.bundled import alignment, contextual
from distill.bundled.alignment import translation_table
from distill.bundled.embeddings import AlignedText, TranslationCounts, initial_embeddings, translation_counts
from distill.bundled.english import EnglishText, overlap, principal_basis
from distill.bundled.parallel import Unit, clauses, corpus_units, segment_units
from distill.bundled.recipe import Recipe, initialise, save
from distill.bundled.vocabulary import english_pieces, foreign_pieces, make_tokenizer, word_counts
from distill.encoders.checkpoints import load_late_interaction
from distill.models.locate import BUNDLED_STUDENT, BUNDLED_TEACHER, locate
from distill.sources import corpus
from distill.text import passage_text

THE, HOUSE, BOOK, DAS, HAUS, BUCH, SIZE = 0, 1, 2, 3, 4, 5, 6
PAIRS = [
    (np.array([THE, HOUSE]), np.array([DAS, HAUS])),
    (np.array([THE, BOOK]), np.array([DAS, BUCH])),
]
NEAR, FAR = 1 / (1 + np.exp(-2.0)), np.exp(-2.0) / (1 + np.exp(-2.0))
"""The diagonal prior of two tokens and two: positions 1/4 and 3/4, so distances 0 and 1/2, times the tension 4."""


# --- parallel text -------------------------------------------------------------------------------------------------------------------


def test_clauses_end_at_the_marks_of_each_script() -> None:
    assert clauses("A is 3.5; b: c. D!") == ["A is 3.5;", "b:", "c.", "D!"]
    assert clauses("蜜蜂跳舞。为什么？因为：花。") == ["蜜蜂跳舞。", "为什么？", "因为：", "花。"]
    assert clauses("آیا می‌رقصد؟ بله.") == ["آیا می‌رقصد؟", "بله."]


def test_units_are_the_bundled_passages_whole_and_in_parts() -> None:
    units = corpus_units()
    expected = [
        {lang: passage_text(row["title"][lang], row["text"][lang]) for lang in corpus.LANGUAGES}
        for row in corpus.rows()
    ]
    assert [unit.texts for unit in units if not unit.counted] == expected
    whole = iter(expected)
    passage: dict[str, str] = {}
    for title, unit in pairwise(units):  # a passage's title comes first, then all of it, then its parts
        if not unit.counted:
            passage = next(whole)
            assert all(passage[lang].startswith(text) for lang, text in title.texts.items())
        elif passage and unit.texts["en"] in passage["en"]:
            assert all(text in passage[lang] for lang, text in unit.texts.items())


def test_no_query_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the queries the text is the same, so neither those for development nor those of the test can be in it."""
    units = corpus_units()
    bare = [{name: row[name] for name in ("id", "title", "text")} for row in corpus.rows()]
    monkeypatch.setattr(corpus, "rows", lambda: bare)
    assert corpus_units() == units


def write_segments(file: Path, rows: list[Any]) -> str:
    with gzip.open(file, "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    return str(file)


def test_segments_map_the_codes_of_tico19(tmp_path: Path) -> None:
    rows = [
        {"sid": "a:1", "en": " a fever ", "es-LA": "una fiebre", "zh": "发烧", "sw": "homa"},
        {"sid": "a:2", "en": "a fever", "fr": "une fièvre"},
    ]
    units = segment_units(write_segments(tmp_path / "segments.jsonl.gz", rows))
    assert units == [Unit({"en": "a fever", "es": "una fiebre", "zh": "发烧"}, counted=True, weight=0.35)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"en": "a", "de": "b"}, {"en": 3, "de": "b"}], "line 2: en: int, expected a string"),
        ([{"de": "b", "fr": "c"}], "line 1: en: a row needs English and another of the languages"),
        ([{"en": "a", "sw": "b"}], "line 1: en: a row needs English and another of the languages"),
        ([[1]], "line 1: "),
        ([], "no rows; give a JSONL file"),
    ],
)
def test_bad_segments_are_named(tmp_path: Path, rows: list[Any], message: str) -> None:
    file = write_segments(tmp_path / "segments.jsonl.gz", rows)
    with pytest.raises(SourceError, match=rf"segments\.jsonl\.gz: {re.escape(message)}"):
        segment_units(file)


# --- vocabulary ----------------------------------------------------------------------------------------------------------------------


def test_word_counts_are_sums_of_weights_without_case_and_accents() -> None:
    assert word_counts([("Größe größe, 蜜蜂", 1.0), ("GRÖSSE", 0.5)]) == {
        "große": 2.0, ",": 1.0, "蜜": 1.0, "蜂": 1.0, "grosse": 0.5,
    }  # fmt: skip


def test_foreign_pieces_by_hand() -> None:
    counts = {"abc": 9.0, "abde": 1.0, "abdf": 1.0, "abdg": 1.0, "x1": 5.0}
    letters = ["##1", "##b", "##c", "##d", "##e", "##f", "##g", "a", "x"]
    # Three quarters of 14 are 10: nine letters and one word. The others occur once, too rarely for words of their own.
    # Their beginnings of three letters: 'abd' in three words. Endings 'de', 'df' and 'dg' are each in one.
    assert foreign_pieces(counts, 14) == sorted([*letters, "abc", "abd"])


def test_english_pieces_are_used_ones_first(tmp_path: Path) -> None:
    teacher = Path(locate(BUNDLED_TEACHER))
    pieces = english_pieces(teacher, ["honey bees dance"], 300)
    assert pieces[:3] == ["bees", "dance", "honey"]
    assert len(pieces) == 300
    assert {"a", "##a", "!", "9"} <= set(pieces)
    assert not any(piece.startswith("[unused") or not piece.isascii() for piece in pieces)


def test_a_piece_of_both_sides_counts_once() -> None:
    tokenizer = make_tokenizer(["bee", "an", "an", "蜂"], 16)
    assert tokenizer.convert_tokens_to_ids(["[PAD]", "[unused1]", "bee", "an", "蜂"]) == [0, 6, 7, 8, 9]
    assert len(tokenizer) == 10
    assert tokenizer("蜂 An bee")["input_ids"] == [2, 9, 8, 7, 3]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Waggle Dance", "the waggle dance"),
        ("Der Schwänzeltanz", "der schwanzeltanz"),
        ("La danse frétillante", "la danse fretillante"),
        ("El baile del niño", "el baile del nino"),
        ("蜜蜂的摇摆舞", "蜜 蜂 的 摇 摆 舞"),
        ("آب و هوا", "اب و هوا"),
        ("Виляющий танец пчёл", "виляющии танец пчел"),
    ],
)
def test_the_bundled_tokenizer_reads_seven_languages(text: str, normal: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(locate(BUNDLED_STUDENT))
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == normal


# --- the English encoder -------------------------------------------------------------------------------------------------------------


def test_overlap_shares_characters() -> None:
    spans, others = np.array([[0, 5], [5, 8], [20, 22]]), np.array([[0, 0], [0, 2], [2, 8]])
    assert overlap(spans, others).tolist() == [
        [0.0, pytest.approx(2 / 5), pytest.approx(3 / 5)],
        [0.0, 0.0, 1.0],
        [0.0, 0.0, 0.0],
    ]


def test_principal_basis_keeps_the_plane_that_states_lie_in() -> None:
    states = torch.tensor([[3.0, 0.0, 0.0], [5.0, 0.0, 0.0], [0.0, -0.6, 0.8]])
    basis = principal_basis(states, 2)
    # Two of three unit states are the first axis, so it leads; of the second direction the largest entry, 0.8, is positive.
    assert torch.allclose(basis, torch.tensor([[1.0, 0.0], [0.0, -0.6], [0.0, 0.8]]), atol=1e-6)


# --- alignment -----------------------------------------------------------------------------------------------------------------------


def test_one_iteration_by_hand() -> None:
    table = translation_table(PAIRS, SIZE, 1)

    def t(source: int, target: int) -> float:
        return table.probability(np.array(source), np.array(target)).item()

    # All values being equal, expected counts are prior probabilities. 'the' meets 'das' twice near the diagonal, 'Haus' and 'Buch' once
    # each away from it: 1.84 in all, and .01 for each of the three.
    assert t(THE, DAS) == pytest.approx(np.exp(digamma(1.84 * NEAR + 0.01) - digamma(1.87)))
    assert t(THE, HAUS) == pytest.approx(np.exp(digamma(0.92 * FAR + 0.01) - digamma(1.87)))
    assert t(HOUSE, HAUS) == pytest.approx(np.exp(digamma(0.92 * NEAR + 0.01) - digamma(0.94)))
    assert t(SIZE, DAS) == pytest.approx(np.exp(digamma(2 * 0.08 + 0.01) - digamma(4 * 0.08 + 0.03)))
    assert t(HOUSE, BUCH) == 0.0
    shares = np.array([0.92 * NEAR * t(THE, DAS), 0.92 * FAR * t(HOUSE, DAS), 0.08 * t(SIZE, DAS)])
    assert table.posterior(*PAIRS[0])[0] == pytest.approx(shares[:2] / shares.sum())


def test_iterations_prefer_translations_to_places() -> None:
    table = translation_table(PAIRS, SIZE, 8)
    swapped = table.posterior(np.array([HOUSE, THE]), np.array([DAS, HAUS]))
    assert swapped.argmax(1).tolist() == [1, 0]


def test_a_word_never_seen_is_aligned_to_nothing() -> None:
    table = translation_table(PAIRS, SIZE, 1)
    assert table.posterior(np.array([BOOK]), np.array([HAUS])).tolist() == [[0.0]]


def test_the_prior_prefers_the_diagonal() -> None:
    assert alignment.position_prior(2, 2) == pytest.approx(np.array([[NEAR, FAR], [FAR, NEAR]]))


# --- embeddings ----------------------------------------------------------------------------------------------------------------------


def english_text(ids: list[int], states: list[list[float]], whole: list[float]) -> EnglishText:
    return EnglishText(np.array(ids), np.array(states, np.float32), np.array(whole, np.float32))


def test_counts_are_sums_of_posteriors_over_counted_units() -> None:
    units = [Unit({"en": "", "de": ""}, counted=counted, weight=1.0) for counted in (True, True, False)]
    english = [english_text([0, 1], [[1.0], [1.0]], [1.0])] * 3
    posterior = np.array([[0.75, 0.25]], np.float32)
    aligned = [AlignedText(i, "de", np.array([3]), posterior) for i in range(3)]
    counts = translation_counts(units, english, aligned, 4)
    assert (counts.foreign.tolist(), counts.english.tolist(), counts.counts.tolist()) == ([3, 3], [0, 1], [1.5, 0.5])


def test_a_foreign_piece_is_the_weighted_mean_of_its_translations() -> None:
    english, vectors = torch.tensor([0, 1]), torch.tensor([[2.0, 0.0], [0.0, 5.0]])
    counts = TranslationCounts(np.array([1, 2, 2, 3]), np.array([0, 0, 1, 1]), np.array([9.0, 3.0, 1.0, 0.05]))
    table = initial_embeddings(english, vectors, counts, 5)
    # Piece 1 is English already, 3 has a count too small to mean anything, and 4 none.
    mean = [3 / 10**0.5, 1 / 10**0.5]
    expected = torch.tensor([[1.0, 0.0], [0.0, 1.0], mean, [0.0, 0.0], [0.0, 0.0]])
    assert torch.allclose(table, expected)


# --- contextual alignment ------------------------------------------------------------------------------------------------------------


def test_foreign_targets_are_means_of_english_states() -> None:
    english = [english_text([7, 8], [[2.0, 0.0], [0.0, 1.0]], [3.0, 4.0])]
    aligned = [AlignedText(0, "de", np.array([9]), np.array([[0.3, 0.4]], np.float32))]
    found = contextual.examples(english, aligned, np.eye(2, dtype=np.float32))[0]
    assert found["en"].states.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert found["de"].states[0] == pytest.approx([0.6, 0.8], abs=1e-3)  # float16
    assert found["de"].weights == pytest.approx([0.7])  # 0.3 for nothing
    assert found["de"].whole == pytest.approx([0.6, 0.8])


SMALL = Recipe(english_pieces=1500, foreign_pieces=1500, hidden=160, layers=1, heads=5, alignment_steps=3)


def test_equal_inputs_give_equal_files(tmp_path: Path) -> None:
    lines: list[str] = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        save(initialise(corpus_units()[:30], Path(locate(BUNDLED_TEACHER)), SMALL, lines.append), folder, SMALL)
    assert lines[3] == lines[7]
    assert lines[3].startswith("alignment step 3 of 3, loss ")
    for file in (tmp_path / "a").iterdir():
        other = (tmp_path / "b" / file.name).read_bytes()
        assert file.read_bytes().replace(b'"model_name": "a"', b'"model_name": "b"') == other, file.name


def test_an_untrained_student_returns_its_embeddings() -> None:
    """The residual path gives back the table: a lone piece's vector is nearly its row, and translations lie near each other."""
    recipe = Recipe(english_pieces=1500, foreign_pieces=1500)
    student = initialise(corpus_units()[:120], Path(locate(BUNDLED_TEACHER)), recipe, lambda _: None)
    table = student.backbone.get_parameter("embeddings.word_embeddings.weight")
    ids = student.tokenizer.convert_tokens_to_ids(["water", "wasser"])
    found = torch.stack([student.encode_passages([word])[0][2] for word in ("water", "wasser")])
    assert torch.nn.functional.cosine_similarity(found, table[torch.tensor(ids)]).min() > 0.97
    assert found[0] @ found[1] > 0.97


# --- what ships ----------------------------------------------------------------------------------------------------------------------


def test_the_bundled_student_is_small_and_says_how_it_reads() -> None:
    folder = Path(locate(BUNDLED_STUDENT))
    assert (folder / "model.safetensors").stat().st_size <= 15 * 2**20
    settings = load_late_interaction(folder).settings
    assert (settings.dim, settings.query_tokens, settings.passage_tokens) == (128, 32, 220)
    assert (settings.marker_mode, settings.mask_punctuation, settings.query_expansion) == ("insert", True, False)


def test_the_bundled_student_finds_chinese_passages_by_english_queries() -> None:
    student = load_late_interaction(locate(BUNDLED_STUDENT))
    ids, texts = zip(
        *((row["id"], passage_text(row["title"], row["text"])) for _, row in corpus.passages() if row["lang"] == "zh"),
        strict=True,
    )
    asked = [row for _, row in corpus.queries() if row["lang"] == "en" and row["split"] == "train"][::10]
    passages = student.encode_passages(texts)
    queries = student.encode_queries([row["text"] for row in asked])
    found = 0
    for row, query in zip(asked, queries, strict=True):
        scores = torch.tensor([(query @ passage.T).amax(1).sum() for passage in passages])
        found += row["id"].rpartition(".")[0] in {ids[i] for i in scores.topk(10).indices.tolist()}
    assert len(asked) == 48
    # By chance 10 of 240 are found, 2 of 48.
    assert found >= 36
