"""Translation by a program: what it is given, and what is said when it fails."""

import sys
from typing import Any

import pytest

from distill.translate.engines import load_engine
from distill.translate.engines.interface import Translated, TranslatorError
from distill.translate.settings import CommandTranslator

UPPER = """
import json, sys
for line in sys.stdin:
    row = json.loads(line)
    text = " " + row["text"].upper() + row["source_lang"] + row["lang"] + sys.argv[1]
    print(json.dumps({"text": text, "truncated": "cut" in row["text"]}))
"""
LINES = "import sys\nfor line in sys.stdin: sys.stdout.write(line.upper())"


def run(program: str, sentences: list[str], *arguments: str, **settings: Any) -> list[Translated]:
    chosen = CommandTranslator(command=(sys.executable, "-c", program, *arguments), name="upper", **settings)
    return load_engine(chosen, "en", "de", "cpu").translate(sentences, "en", "de")


def test_objects_in_objects_out() -> None:
    found = run(UPPER, ["grün", "cut"], "[{source_lang}-{lang}]")
    assert found == [Translated("GRÜNende[en-de]", truncated=False), Translated("CUTende[en-de]", truncated=True)]


def test_lines_in_lines_out_a_sentence_is_one_line() -> None:
    assert [each.text for each in run(LINES, ["one\ntwo", "", "x\u2028y"], format="lines")] == ["ONE TWO", "", "X Y"]


def test_a_run_gets_so_many_sentences() -> None:
    counting = "import sys\nlines = sys.stdin.readlines()\nfor line in lines: print(len(lines))"
    found = run(counting, [f"s{i}" for i in range(7)], format="lines", sentences_per_run=3)
    assert [each.text for each in found] == ["3", "3", "3", "3", "3", "3", "1"]


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("print('{}')", r"command '.*': line 1 of its output is not an object with \"text\""),
        ("print('no')", r"line 1 of its output is not JSON: 'no'"),
        ("", r"wrote 0 translations of 1 sentences$"),
        ("import sys; print(1, 2, sep='\\n'); sys.stderr.write('two')", r"wrote 2 translations of 1 .*; its standard error ends: two"),
        ("import sys; sys.exit('no\\nlicence')", r"ended with status 1; its standard error ends: no licence"),
        ("import sys; sys.stdout.buffer.write(bytes([255, 10]))", r"wrote what is not UTF-8: invalid start byte at byte 0"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", r"ended with status -9"),
    ],
)  # fmt: skip
def test_failures_are_one_line(program: str, message: str) -> None:
    with pytest.raises(TranslatorError, match=message):
        run(program, ["a"])


def test_a_program_that_does_not_end() -> None:
    with pytest.raises(TranslatorError, match=r"took more than 0\.5 s for 1 sentences"):
        run("import time; time.sleep(60)", ["a"], timeout_s=0.5)


def test_a_program_that_does_not_exist() -> None:
    chosen = CommandTranslator(command=("/nowhere/translate",), name="none")
    with pytest.raises(TranslatorError, match=r"cannot run command '/nowhere/translate': No such file"):
        load_engine(chosen, "en", "de", "cpu").translate(["a"], "en", "de")
