"""The student's tokenizer: pieces of the English encoder and foreign pieces learned from the parallel text.

WordPiece as in BERT (Schuster and Nakajima, 2012; Devlin et al., arXiv 1810.04805): lower case, accents stripped, Chinese characters apart.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from distill.encoders.late_interaction import PASSAGE_MARKER, QUERY_MARKER

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", QUERY_MARKER, PASSAGE_MARKER)
_WORD_SHARE = 0.75
_LEAST_COUNT = 1.5
_LEAST_FAMILY = 3


def word_counts(texts: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Sum the weights of the words that the normaliser and the pre-tokenizer make of (text, weight) pairs."""
    normal, split = _normalizer(), pre_tokenizers.BertPreTokenizer()
    counts: defaultdict[str, float] = defaultdict(float)
    for text, weight in texts:
        for word, _ in split.pre_tokenize_str(normal.normalize_str(text)):
            counts[word] += weight
    return dict(counts)


def foreign_pieces(counts: Mapping[str, float], size: int) -> list[str]:
    """About `size` pieces, sorted: every letter, then frequent words up to three quarters, then affixes of the words left out.

    Whole words are aligned and translated better than parts of words, so they come first, if counted 1.5 times or more. Affixes
    (beginnings of three letters or more, endings of two or more) are those of at least three words, scored by the count of their words
    times their length. Nothing with a digit is a piece but the digits. Ties fall to the alphabet.
    """
    kept = {_continued(letter, position) for word in counts for position, letter in enumerate(word)}
    words = [word for word, count in counts.items() if len(word) > 1 and count >= _LEAST_COUNT and not _has_digit(word)]
    words.sort(key=lambda word: (-counts[word], word))
    kept.update(words[: max(0, int(size * _WORD_SHARE) - len(kept))])
    scores: defaultdict[str, float] = defaultdict(float)
    families: Counter[str] = Counter()
    for word in sorted(counts.keys() - kept):
        if _has_digit(word):
            continue
        for cut in range(2, len(word)):
            for piece, length, least in ((word[:cut], cut, 3), (_continued(word[cut:], cut), len(word) - cut, 2)):
                if length >= least:
                    scores[piece] += counts[word] * (length - 1)
                    families[piece] += 1
    affixes = [piece for piece in scores if families[piece] >= _LEAST_FAMILY and piece not in kept]
    affixes.sort(key=lambda piece: (-scores[piece], piece))
    kept.update(affixes[: max(0, size - len(kept))])
    return sorted(kept)


def english_pieces(teacher: Path, texts: Sequence[str], size: int) -> list[str]:
    """About `size` ASCII pieces of the English encoder: those that the texts use, single characters, then the others by their ids.

    BERT's vocabulary runs roughly from frequent to rare.
    """
    tokenizer = Tokenizer.from_file(str(teacher / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    ids = tokenizer.get_vocab()
    usable = {piece for piece in ids if piece.isascii() and not (piece.startswith("[") and len(piece) > 1)}
    used = {piece for coding in tokenizer.encode_batch(list(texts)) for piece in coding.tokens} & usable
    others = sorted(usable - used, key=ids.__getitem__)
    letters = [piece for piece in others if len(piece.removeprefix("##")) == 1]
    longer = [piece for piece in others if len(piece.removeprefix("##")) > 1]
    return sorted(used) + letters + longer[: max(0, size - len(used) - len(letters))]


def make_tokenizer(pieces: Iterable[str], longest: int) -> PreTrainedTokenizerFast:
    """Make a tokenizer with the special tokens, [PAD] being 0, and then the pieces in order, repeated ones once."""
    vocabulary = {piece: position for position, piece in enumerate(dict.fromkeys((*SPECIAL, *pieces)))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = _normalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=longest,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def _normalizer() -> normalizers.Normalizer:
    return normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=True, lowercase=True)


def _continued(piece: str, position: int) -> str:
    return f"##{piece}" if position else piece


def _has_digit(word: str) -> bool:
    return any(letter.isdigit() for letter in word)
