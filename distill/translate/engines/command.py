"""Translation by a program of the user's: a paid service's client, Sockeye in its own environment, a script."""

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from distill.translate.engines.interface import Translated, TranslatorError
from distill.translate.settings import CommandTranslator

_SHOWN = 300


class CommandEngine:
    """Runs a program on each batch of sentences: sentences in, as many translations out, in the same order.

    A program that ends with an error, takes too long, or writes another number of translations is a `TranslatorError` with the end of
    what it wrote to standard error.
    """

    def __init__(self, settings: CommandTranslator) -> None:
        self.name = f"{settings.name} command"
        self.version = ""
        self._settings = settings

    def translate(self, sentences: Sequence[str], source_lang: str, lang: str) -> list[Translated]:
        """Translate sentences, in their order. Cost: one process for `sentences_per_run` sentences."""
        size = self._settings.sentences_per_run
        batches = [sentences[first : first + size] for first in range(0, len(sentences), size)]
        return [translated for batch in batches for translated in self._run(batch, source_lang, lang)]

    def _run(self, sentences: Sequence[str], source_lang: str, lang: str) -> list[Translated]:
        languages = {"{source_lang}": source_lang, "{lang}": lang}
        command = [_filled(part, languages) for part in self._settings.command]
        try:
            done = subprocess.run(  # noqa: S603 - running the user's program is what this is for
                command,
                input=self._input(sentences, source_lang, lang).encode(),
                capture_output=True,
                timeout=self._settings.timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise TranslatorError(
                f"{_shown(command)} took more than {self._settings.timeout_s:g} s for {len(sentences)} sentences{_tail(error.stderr)}"
            ) from error
        except OSError as error:
            raise TranslatorError(
                f"cannot run {_shown(command)}: {error.strerror}; set `command` of the translator to a program on every worker"
            ) from error
        if done.returncode:
            raise TranslatorError(f"{_shown(command)} ended with status {done.returncode}{_tail(done.stderr)}")
        return self._parse(done.stdout, len(sentences), command, done.stderr)

    def _input(self, sentences: Sequence[str], source_lang: str, lang: str) -> str:
        if self._settings.format == "lines":
            return "".join(f"{' '.join(sentence.splitlines())}\n" for sentence in sentences)
        rows = ({"text": sentence, "source_lang": source_lang, "lang": lang} for sentence in sentences)
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    def _parse(self, output: bytes, expected: int, command: Sequence[str], errors: bytes) -> list[Translated]:
        try:
            text = output.decode()
        except UnicodeDecodeError as error:
            raise TranslatorError(
                f"{_shown(command)} wrote what is not UTF-8: {error.reason} at byte {error.start}"
            ) from error
        # Not splitlines: a translation may hold U+2028 or a form feed, which end no line here.
        lines = [line.removesuffix("\r") for line in text.split("\n")]
        if lines[-1] == "":
            lines.pop()
        if len(lines) != expected:
            raise TranslatorError(
                f"{_shown(command)} wrote {len(lines)} translations of {expected} sentences{_tail(errors)}"
            )
        if self._settings.format == "lines":
            return [Translated(line.strip(), truncated=False) for line in lines]
        return [_read(line, number, command) for number, line in enumerate(lines, start=1)]


def _read(line: str, number: int, command: Sequence[str]) -> Translated:
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise TranslatorError(f"{_shown(command)}: line {number} of its output is not JSON: {line[:80]!r}") from error
    if (
        not isinstance(row, dict)
        or not isinstance(row.get("text"), str)
        or not isinstance(row.get("truncated", False), bool)
    ):
        raise TranslatorError(
            f'{_shown(command)}: line {number} of its output is not an object with "text" (and perhaps "truncated"): {line[:80]!r}'
        )
    return Translated(row["text"].strip(), row.get("truncated", False))


def _filled(part: str, languages: dict[str, str]) -> str:
    for name, lang in languages.items():
        part = part.replace(name, lang)
    return part


def _shown(command: Sequence[str]) -> str:
    return f"command '{' '.join(command)[:120]}'"


def _tail(errors: bytes | None) -> str:
    text = " ".join((errors or b"").decode(errors="replace").split())
    return f"; its standard error ends: {text[-_SHOWN:]}" if text else ""
