from distill.meta.tasks.readable import readable
from distill.tables import RETRIEVAL_TASKS, SIMILARITY_TASKS


def test_a_retrieval_task_reads_as_questions_and_their_candidates() -> None:
    assert readable(RETRIEVAL_TASKS.example).splitlines() == [
        "task 0  de_de-de_fr",
        "  support",
        "    ? de  Wie weit?",
        "      + de  Zwei Meilen.",
        "      - de  Am Abend.",
        "  query",
        "    ? de  Warum?",
        "      + fr  Parce que ...",
        "      - fr  Le soir.",
    ]


def test_a_similarity_task_reads_as_pairs_with_their_scores() -> None:
    assert readable(SIMILARITY_TASKS.example).splitlines() == [
        "task 0  de_de-de_fr",
        "  support",
        "    1.00 de  Ein Flugzeug hebt ab.",
        "         de  Ein Flugzeug startet.",
        "  query",
        "    0.95 de  Ein Mann tanzt.",
        "         fr  Un homme danse.",
    ]


def test_long_texts_are_cut_and_lines_joined() -> None:
    long = readable({**RETRIEVAL_TASKS.example, "questions": ["one\ntwo", "x" * 200]}).splitlines()
    assert long[2] == "    ? de  one two"
    assert long[6] == f"    ? de  {'x' * 109}…"
