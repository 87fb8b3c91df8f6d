from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from distill.models.loading import load_tokenizer
from distill.models.locate import ModelError
from distill.score.settings import CausalTeacher, PromptSettings
from distill.score.teachers.causal import causal_composer, causal_prompt
from distill.score.teachers.interface import Composer
from distill.score.teachers.prompts import PairComposer, Prompt, PromptComposer
from tests.tiny_teachers import (
    CAUSAL,
    CROSS_ENCODERS,
    GEMMA_TASK,
    MXBAI_TAIL,
    MXBAI_TASK,
    PAIRS,
    PASSAGES,
    QUERIES,
    QWEN3_TAIL,
    SEQ2SEQ,
    PlainTransformers,
    teacher_settings,
)

MakeTeacher = Callable[[str], Path]
T5_PROMPT = Prompt((), ("Query: ", " Document:"), (), (" ", " Relevant:</s>"), (), ("▁false", "▁true"))


def prompt_composer(family: str, folder: Path, max_tokens: int) -> PromptComposer:
    tokenizer = load_tokenizer(str(folder), None)
    if family in SEQ2SEQ:
        return PromptComposer(tokenizer, T5_PROMPT, max_tokens)
    settings: Any = teacher_settings(family, folder)
    return PromptComposer(tokenizer, causal_prompt(settings, tokenizer), max_tokens)


@pytest.mark.parametrize("family", ["t5", *CAUSAL])
def test_prompts_are_those_of_the_models_own_recipe(tiny_teacher: MakeTeacher, family: str) -> None:
    plain = PlainTransformers(family, tiny_teacher(family))
    composed = prompt_composer(family, tiny_teacher(family), 2000).compose(QUERIES, PASSAGES, PAIRS)
    assert [pair.ids for pair in composed] == [plain.ids(QUERIES[q], PASSAGES[p]) for q, p in PAIRS]
    assert [pair.second for pair in composed] == [len(pair.ids) for pair in composed]
    assert not any(pair.truncated for pair in composed)


@pytest.mark.parametrize("family", ["t5", *CAUSAL])
def test_at_every_budget_only_the_passage_is_cut(tiny_teacher: MakeTeacher, family: str) -> None:
    """Cut one token after another off the passage, from where the tail begins: what is left is what must be composed."""
    plain = PlainTransformers(family, tiny_teacher(family))
    pieces = {
        "t5": [" Relevant:</s>"],
        "qwen3": [QWEN3_TAIL],
        "gemma": ["\n", GEMMA_TASK],
        "qwen2": ["\n", MXBAI_TASK, MXBAI_TAIL],
    }[family]
    tail_ids = [i for piece in pieces for i in plain.tokenizer(piece, add_special_tokens=False)["input_ids"]]
    for q, p in [(0, 0), (1, 4)]:
        body = plain.ids(QUERIES[q], PASSAGES[p])[: -len(tail_ids)]
        full = len(body) + len(tail_ids)
        for budget in range(full + 2, full - 12, -1):
            found = prompt_composer(family, tiny_teacher(family), budget).compose(QUERIES, PASSAGES, [(q, p)])[0]
            assert found.ids == [*body[: budget - len(tail_ids)], *tail_ids]
            assert found.truncated == (budget < full)


@pytest.mark.parametrize("family", ["bert", "xlmr", "modernbert", "deberta"])
def test_pairs_are_those_of_the_tokenizer_at_every_budget(tiny_teacher: MakeTeacher, family: str) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_teacher(family))
    for budget in (24, 25, 26, 30, 40, 55, 80, 512):
        pairs = [(q, p) for q, p in PAIRS if q == 1]
        composer = PairComposer(tokenizer, budget, "tiny", segments=True)
        for (q, p), found in zip(pairs, composer.compose(QUERIES, PASSAGES, pairs), strict=True):
            expected = tokenizer(QUERIES[q], PASSAGES[p], truncation="only_second", max_length=budget)
            assert found.ids == expected["input_ids"]
            assert found.truncated == (len(tokenizer(QUERIES[q], PASSAGES[p])["input_ids"]) > budget)
            kinds = expected.get("token_type_ids", [0] * len(found.ids))
            assert [int(place >= found.second) for place in range(len(found.ids))] == kinds


def test_second_is_the_end_where_the_model_has_no_segments(tiny_teacher: MakeTeacher) -> None:
    composer = PairComposer(load_tokenizer(str(tiny_teacher("deberta")), None), 64, "tiny")
    found = composer.compose(["stone"], ["bridge"], [(0, 0)])[0]
    assert found.second == len(found.ids)


def test_shortest_passage_and_the_query_that_leaves_no_room(tiny_cross_encoder: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_cross_encoder), None)
    query, passage = "honey bee dance", "sun angle"
    found = PairComposer(tokenizer, 7, "tiny").compose([query], [passage], [(0, 0)])[0]
    assert tokenizer.convert_ids_to_tokens(found.ids) == ["[CLS]", "honey", "bee", "dance", "[SEP]", "sun", "[SEP]"]
    with pytest.raises(ModelError) as error:
        PairComposer(tokenizer, 6, "tiny").compose(["bee", query], [passage], [(0, 0), (1, 0)])
    assert str(error.value) == (
        "query 'honey bee dance' leaves no room for a passage within max_tokens 6; set score.teacher.max_tokens to at least 7"
    )
    PairComposer(tokenizer, 6, "tiny").compose(["bee", query], [passage], [(0, 0)])  # a query in no pair does no harm


def test_the_advised_max_tokens_is_enough_and_one_less_is_not(tiny_teacher: MakeTeacher) -> None:
    for family in ("t5", *CAUSAL):
        with pytest.raises(ModelError, match="leaves no room") as error:
            prompt_composer(family, tiny_teacher(family), 8).compose([QUERIES[0] * 9], PASSAGES, [(0, 0)])
        assert "..." in str(error.value)
        needed = int(str(error.value).split()[-1])
        prompt_composer(family, tiny_teacher(family), needed).compose([QUERIES[0] * 9], PASSAGES, [(0, 0)])
        with pytest.raises(ModelError):
            prompt_composer(family, tiny_teacher(family), needed - 1).compose([QUERIES[0] * 9], PASSAGES, [(0, 0)])


class CountingTokenizer(PreTrainedTokenizerFast):
    """Remembers what it tokenised."""

    seen: ClassVar[list[str]] = []

    def __call__(self, text: Any, *rest: Any, **options: Any) -> Any:
        self.seen.extend([text] if isinstance(text, str) else text)
        return super().__call__(text, *rest, **options)


@pytest.mark.parametrize("family", ["bert", "t5", "gemma"])
def test_each_distinct_text_in_use_is_tokenised_once(tiny_teacher: MakeTeacher, family: str) -> None:
    counting: Any = CountingTokenizer.from_pretrained(tiny_teacher(family))
    composer: Composer
    if family == "bert":
        composer = PairComposer(counting, 64, "tiny")
    else:
        settings: Any = teacher_settings(family, tiny_teacher(family))
        prompt = T5_PROMPT if family == "t5" else causal_prompt(settings, counting)
        composer = PromptComposer(counting, prompt, 400)
    counting.seen.clear()
    composer.compose(["sun", "sun", "moon"], ["bee", "river", "bee", "city"], [(0, 0), (1, 1), (0, 2), (1, 0)])
    assert len(counting.seen) == 3  # sun, bee, river; neither moon nor city
    assert len(set(counting.seen)) == 3


def test_ids_do_not_depend_on_what_else_is_composed(tiny_teacher: MakeTeacher) -> None:
    for family in ("bert", "t5", "qwen3"):
        folder = tiny_teacher(family)
        composer: Composer = (
            PairComposer(load_tokenizer(str(folder), None), 30, "tiny")
            if family in CROSS_ENCODERS
            else prompt_composer(family, folder, 250)
        )
        together = composer.compose(QUERIES, PASSAGES, PAIRS)
        alone = [composer.compose([QUERIES[q]], [PASSAGES[p]], [(0, 0)])[0] for q, p in PAIRS]
        assert together == alone


def test_the_hash_tells_prompts_apart() -> None:
    same = Prompt((), ("Query: ", " Document:"), (), (" ", " Relevant:</s>"), (), ("▁false", "▁true"))
    moved = Prompt((), ("Query: ", " Document: "), (), ("", " Relevant:</s>"), (), ("▁false", "▁true"))
    answers = Prompt((), ("Query: ", " Document:"), (), (" ", " Relevant:</s>"), (), ("▁", "▁true"))
    assert T5_PROMPT.hash == same.hash == "45cc7a750e921b34"
    assert len({T5_PROMPT.hash, moved.hash, answers.hash}) == 3


def test_a_prompt_of_ones_own_is_the_whole_text(tiny_teacher: MakeTeacher) -> None:
    folder = tiny_teacher("qwen2")
    own = PromptSettings(
        before_query="<|im_start|>Q: ", before_passage="\nD: ", after_passage="\nIs it?<|im_end|>", no="no", yes="yes"
    )
    settings = CausalTeacher(model=str(folder), prompt=own, max_tokens=300)
    tokenizer = load_tokenizer(str(folder), None)
    for passage in ("A bridge", "Is it?", "  old.\n", ""):
        found = causal_composer(settings, tokenizer).compose(["what?"], [passage], [(0, 0)])[0]
        text = f"<|im_start|>Q: what?\nD: {passage}\nIs it?<|im_end|>"
        assert found.ids == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_token_of_passage_and_tail_is_never_cut(tiny_teacher: MakeTeacher) -> None:
    folder = tiny_teacher("qwen2")
    own = PromptSettings(before_query="Q: ", before_passage="\nD: ", after_passage="\nIs it?", no="no", yes="yes")
    tokenizer: Any = load_tokenizer(str(folder), None)
    passage = "stone bridge, is it old?"
    whole = tokenizer(f"Q: what\nD: {passage}\nIs it?", add_special_tokens=False)["input_ids"]
    tokens = tokenizer.convert_ids_to_tokens(whole)
    tail = tokens.index("?Ċ")  # the passage's last character and the tail's first
    assert tail > 8
    for budget in range(len(whole) - 1, len(whole) - 6, -1):
        settings = CausalTeacher(model=str(folder), prompt=own, max_tokens=300)
        composer = PromptComposer(tokenizer, causal_prompt(settings, tokenizer), budget)
        found = composer.compose(["what"], [passage], [(0, 0)])[0]
        assert found.ids == [*whole[: tail - (len(whole) - budget)], *whole[tail:]]
        assert found.truncated


def test_a_prompt_that_the_tokenizer_splits_differently_is_refused(tiny_teacher: MakeTeacher) -> None:
    folder = tiny_teacher("t5")  # its tokenizer puts a word mark at the start of every text
    own = PromptSettings(before_query="Q ", before_passage=" D(", after_passage=") yes?", yes="▁yes")
    settings = CausalTeacher(model=str(folder), prompt=own, max_tokens=300)
    with pytest.raises(ModelError, match=r"splits the prompt differently in pieces, from token \d+ on; end the text"):
        causal_composer(settings, load_tokenizer(str(folder), None))


def test_a_tokenizer_without_a_template_for_pairs_is_refused(tiny_teacher: MakeTeacher) -> None:
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(tiny_teacher("gemma"))
    with pytest.raises(ModelError, match="the tokenizer of 'tiny' puts nothing between query and passage"):
        PairComposer(tokenizer, 64, "tiny")
