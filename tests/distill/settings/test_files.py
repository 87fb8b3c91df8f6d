"""YAML files of settings: what is refused, and what words and numbers without quotes are."""

from pathlib import Path
from typing import Any

import pytest

from distill.config import load
from distill.settings.files import ConfigError, parse_value, read_settings


def read(path: Path, text: str | bytes) -> dict[str, Any]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_settings(path)


def test_values_are_what_they_look_like(tmp_path: Path) -> None:
    text = "\ufeffa: [5e-6, 1E3, -.5, 1., .inf, 1_000, 0x1f, 0]\nb: [1:30, 010, 2024-01-01, 1.2.3, é]\nc: [true, null, ~, no]\n"
    assert read(tmp_path / "a.yaml", text) == {
        "a": [5e-6, 1e3, -0.5, 1.0, float("inf"), 1000, 31, 0],
        "b": ["1:30", "010", "2024-01-01", "1.2.3", "é"],
        "c": [True, None, None, False],
    }


def test_merged_keys_may_be_given_again(tmp_path: Path) -> None:
    text = "base: &base {x: 1, y: 2}\nmore:\n  <<: *base\n  y: 3\n"
    assert read(tmp_path / "a.yaml", text)["more"] == {"x": 1, "y": 3}
    assert read(tmp_path / "b.yaml", "") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: x\nlanguages: [de]\nlanguages: [zh]\n",
            " line 3: 'languages' is there twice, also on line 2; keep one of the two",
        ),
        ("train:\n  steps: 1\n  'steps': 2\n", " line 3: 'steps' is there twice, also on line 2; keep one of the two"),
        ("name: x\nfiles: {no: [x.jsonl]}\n", " line 2: the key no is False in YAML; quote it: 'no'"),
        ("a:\n  Yes: 1\n", " line 2: the key Yes is True in YAML; quote it: 'Yes'"),
        ("~: 1\n", " line 1: the key ~ is None in YAML; quote it: '~'"),
        ("name: x\n\ta: 1\n", " line 2: not YAML: while scanning for the next token, found character '\\t'"),
        ("a: !!python/object:os.system x\n", " line 1: not YAML: could not determine a constructor"),
        ("a: \x07\n", " is not YAML: unacceptable character"),
        ("[" * 5000, " is not YAML: "),
        ("- 1\n", " holds a list, expected settings by name"),
        ("name: x\npath: M\xfcller\n".encode("latin-1"), " line 2 is not UTF-8 (byte 0xfc); save it as UTF-8"),
        ("name: x\n".encode("utf-16"), " is UTF-16; save it as UTF-8"),
    ],
)
def test_what_is_refused_names_file_and_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path / "a.yaml", text)
    assert str(caught.value).startswith(f"{tmp_path}/a.yaml{message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("languages: [de, no]\n", "languages.1: Input should be a valid string (got False); quote it: "),
        ("name: 1.10\n", "name: Input should be a valid string (got 1.1); quote it: "),
    ],
)
def test_text_that_yaml_takes_for_something_else_is_to_be_quoted(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load([tmp_path / "a.yaml"])
    assert str(caught.value).startswith(message)
    (tmp_path / "a.yaml").write_text(text.replace("no]", '"no"]').replace("1.10", "'1.10'"))
    assert load([tmp_path / "a.yaml"]).model_dump()[message.split(":", maxsplit=1)[0].split(".", maxsplit=1)[0]] in {
        ("de", "no"),
        "1.10",
    }


def test_values_in_json_and_yaml() -> None:
    assert parse_value('{"a": [1, 1e-5], "no": null}', "x") == {"a": [1, 1e-5], "no": None}
    assert parse_value("{a: [1, 1e-5], 'no': ~}", "x") == {"a": [1, 1e-5], "no": None}
    with pytest.raises(ConfigError, match=r"^x: 'a' is there twice; keep one of the two$"):
        parse_value('{"b": {"a": 1, "a": 2}}', "x")
    with pytest.raises(ConfigError, match=r"^x line 1: not YAML: "):
        parse_value("{a: [}", "x")
