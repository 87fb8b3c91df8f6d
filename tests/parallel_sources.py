"""Small parallel sources for meta-tasks: questions and candidates, or sentence pairs, whose ids say what they are."""

import pyarrow as pa

from distill.tables import ANSWERED, ANSWERS, QUESTIONS, SENTENCE_PAIRS

LANGUAGES = ("de", "en", "fr")
ARTICLES = 6
PER_ARTICLE = 5


def parallel_questions(
    languages: tuple[str, ...] = LANGUAGES, articles: int = ARTICLES, split: str = ""
) -> dict[str, pa.Table]:
    """Question `q07` is about article `A1` and answered by `a07`, in every language; each second of an article also by the first's.

    Every article has a candidate in each language that answers nothing (`x1`).
    """
    questions, answers, answered = [], [], []
    for article in range(articles):
        for lang in languages:
            common = {"lang": lang, "article": f"A{article}", "split": split}
            answers.append({"answer_id": f"x{article}_{lang}", "text": f"nothing {article} {lang}", **common})
            for i in range(article * PER_ARTICLE, (article + 1) * PER_ARTICLE):
                xling_id = f"q{i:02d}"
                asked = {"question_id": f"{xling_id}_{lang}", "xling_id": xling_id, "text": f"question {i:02d} {lang}"}
                questions.append({**asked, **common})
                answers.append({"answer_id": f"a{i:02d}_{lang}", "text": f"answer {i:02d} {lang}", **common})
                answered += [{"xling_id": xling_id, "answer_id": f"a{j:02d}_{lang}"} for j in answering(i)]
    return {
        "questions": QUESTIONS.from_rows(questions),
        "answers": ANSWERS.from_rows(answers),
        "answered": ANSWERED.from_rows(answered),
    }


def answering(question: int) -> list[int]:
    """The numbers of the candidates that answer a question."""
    return [question, question - 1] if question % PER_ARTICLE == 1 else [question]


def parallel_pairs(languages: tuple[str, ...] = LANGUAGES, pairs: int = 10) -> pa.Table:
    """Pairs `train/0`, `dev/0`, `test/0` and on, with score i / 10, in every language."""
    return SENTENCE_PAIRS.from_rows(
        {
            "pair_id": f"{split}/{i}",
            "lang": lang,
            "first": f"first {split} {i} {lang}",
            "second": f"second {split} {i} {lang}",
            "score": i / 10,
            "split": split,
        }
        for split in ("train", "dev", "test")
        for i in range(pairs)
        for lang in languages
    )
