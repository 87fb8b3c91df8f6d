"""Settings described for people: every default is the model's, every field is named, configurations with comments load again."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
import yaml
from pydantic import BaseModel, Field
from pydantic_core import PydanticUndefined, to_jsonable_python

from cluster.settings import Settings
from distill.config import Config
from distill.meta.config import MetaConfig
from distill.settings.describe import commented, details, overview, spelled
from distill.settings.load import load_as

CONFIGS = sorted((Path(__file__).parents[3] / "jobs/configs").glob("*.yaml"))
KINDS: dict[str, type[Config] | type[MetaConfig]] = {"config": Config, "meta": MetaConfig}


class Square(Settings):
    """A square."""

    type: Literal["square"] = "square"
    side: float = 1.0
    """Length of a side."""


class Circle(Settings):
    """A circle.

    More of it.
    """

    type: Literal["circle"] = "circle"
    radius: float
    """Half its diameter."""


class Drawing(Settings):
    """A drawing."""

    title: str | None = None
    """The title; it may be long, so long that it does not stand on one line. Second sentence.

    - `a`: one
    - `b`: two"""
    shape: Square | Circle = Field(default=Square(side=2.5), discriminator="type")
    """What is drawn."""
    filled: bool = True
    """Whether it is filled."""
    frame: Square | None = None
    """Around it."""
    shapes: tuple[Square | Circle, ...] = ()
    """Others."""
    sizes: dict[str, tuple[float, float]] = Field(default_factory=lambda: {"a4": (21, 29.7)})
    """Sizes by name."""


def test_a_group_in_full() -> None:
    """Worked by hand: defaults of the instance and not of the class, no default where there is none, alternatives under their type."""
    assert "\n".join(str(details(Drawing, name, 60)) for name in Drawing.model_fields) == (
        """\
--title TEXT (default: none)
    The title; it may be long, so long that it does not
    stand on one line. Second sentence.
    - `a`: one
    - `b`: two
--shape.type square|circle (default: square)
    What is drawn.

  `square`: A square.
    --shape.side FLOAT (default: 2.5)
        Length of a side.

  `circle`: A circle.
    --shape.radius FLOAT (required)
        Half its diameter.
--[no-]filled (default: true)
    Whether it is filled.
--frame {...} (default: none)
    Around it.
  --frame.side FLOAT (default: 1.0)
      Length of a side.
--shapes {type: square|circle, ...},... (default: [])
    Others.
--sizes {TEXT: [FLOAT, FLOAT]} (default: {"a4": [21, 29.7]})
    Sizes by name."""
    )


def test_a_dotted_name_and_a_name_that_is_none() -> None:
    assert details(Drawing, "shape.side") == "--shape.side FLOAT (default: 2.5)\n    Length of a side."
    assert details(Drawing, "frame.side") == "--frame.side FLOAT (default: 1.0)\n    Length of a side."
    assert details(Drawing, "shape.radius") == "--shape.radius FLOAT (required)\n    Half its diameter."
    for name in ("nothing", "shape.nothing", "title.nothing", "nothing.side"):
        assert details(Drawing, name) is None


def test_a_setting_that_alternatives_share() -> None:
    """Once where it is the same in all of them, else once for each group of those that agree."""
    text = details(Config, "train.loss.weight")
    assert text == "--train.loss.weight FLOAT (default: 1.0)\n    Factor on this loss."
    text = str(details(Config, "score.teacher.max_tokens"))
    assert re.findall(r"^`.*$|default: \d+", text, re.MULTILINE) == [
        "`cross_encoder`:", "default: 512", "`monot5`:", "default: 512", "`causal`:", "default: 1024",
    ]  # fmt: skip
    assert str(details(Config, "score.teacher.engine")).startswith("--score.teacher.engine.type transformers|vllm")


def test_an_overview_is_a_line_a_setting() -> None:
    assert overview(Drawing, 62).splitlines() == [
        "  title          The title (default: none)",
        "  shape          What is drawn.",
        "  filled         Whether it is filled. (default: true)",
        "  frame          Around it.",
        "  shapes         Others. (default: [])",
        '  sizes          Sizes by name. (default: {"a4": [21, 29.7]})',
    ]


def test_comments_on_every_key() -> None:
    drawing = Drawing(shapes=(Circle(radius=3),), frame=Square(), title="A: b")
    text = commented(drawing)
    assert text.splitlines() == [
        "# The title; it may be long, so long that it does not stand on one line. Second sentence.",
        "# - `a`: one",
        "# - `b`: two",
        "title: 'A: b'",
        "# What is drawn.",
        "shape:",
        "  # A square. One of square, circle.",
        "  type: square",
        "  # Length of a side.",
        "  side: 2.5",
        "# Whether it is filled.",
        "filled: true",
        "# Around it.",
        "frame:",
        "  # A square.",
        "  type: square",
        "  # Length of a side.",
        "  side: 1.0",
        "# Others.",
        "shapes:",
        "  -",
        "    # A circle.",
        "    type: circle",
        "    # Half its diameter.",
        "    radius: 3.0",
        "# Sizes by name.",
        "sizes:",
        "  a4:",
        "  - 21.0",
        "  - 29.7",
    ]
    assert Drawing.model_validate(yaml.safe_load(text)) == drawing


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int | None, "INT"),
        (Literal["a", "b"] | float, "a|b|FLOAT"),
        (tuple[str, ...], "TEXT,..."),
        (dict[str, Any], "{TEXT: VALUE}"),
        (Square, "{type: square, ...}"),
    ],
)
def test_types_are_spelled_as_they_are_typed(annotation: Any, text: str) -> None:
    assert spelled(annotation) == text


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_shipped_configurations_with_comments_load_again(file: Path, tmp_path: Path) -> None:
    kind = MetaConfig if file.stem.startswith("maml_") else Config
    config = load_as(kind, [file])
    text = commented(config)
    (tmp_path / "again.yaml").write_text(text, encoding="utf-8")
    assert load_as(kind, [tmp_path / "again.yaml"]) == config
    assert len(re.findall(r"(?:^ *#.*\n)+", text, re.MULTILINE)) == count(config)


def count(value: Any) -> int:
    """The settings of a configuration, groups too."""
    if isinstance(value, tuple):
        return sum(map(count, value))
    names = type(value).model_fields if isinstance(value, BaseModel) else ()
    return sum(1 + count(getattr(value, name)) for name in names)


@pytest.mark.parametrize("kind", KINDS)
def test_every_printed_default_is_the_models_and_no_field_is_left_out(kind: str) -> None:
    """Each printed default is read back and compared with the default that a configuration gets without that setting."""
    config = KINDS[kind]()
    for top, field in type(config).model_fields.items():
        text = details(type(config), top)
        assert text is not None
        printed = list(parse(text))
        expected = sorted(defaults(top, field.annotation, getattr(config, top)), key=str)
        assert sorted(printed, key=str) == expected


def parse(text: str) -> Iterator[tuple[str, Any]]:
    """Names and defaults as they are printed."""
    for line in text.splitlines():
        if found := re.match(r" *--(?:\[no-\])?(\S+)(?: .*?)? \((?:default: (.*)|(required))\)$", line):
            yield found[1], found[2] or found[3]


def defaults(name: str, annotation: Any, value: Any) -> Iterator[tuple[str, Any]]:
    """Names and defaults of a setting and of everything below it, from the models alone."""
    alternatives = [one for one in flat(annotation) if isinstance(one, type) and issubclass(one, BaseModel)]
    if len(alternatives) > 1:
        yield f"{name}.type", "none" if value is None else value.type
    elif not alternatives or not isinstance(value, BaseModel):
        yield name, text_of(value)
    for alternative in alternatives:
        for below, field in alternative.model_fields.items():
            if below != "type":
                default = (
                    getattr(value, below)
                    if type(value) is alternative
                    else field.get_default(call_default_factory=True)
                )
                yield from defaults(f"{name}.{below}", field.annotation, default)


def text_of(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    plain = to_jsonable_python(value)
    if plain is None:
        return "none"
    return plain if isinstance(plain, str) and plain and "\n" not in plain else json.dumps(plain, ensure_ascii=False)


def flat(annotation: Any) -> Iterator[Any]:
    """The members of a union, through annotations; an annotation of containers is itself."""
    if isinstance(annotation, type) or str(annotation).startswith(("tuple", "dict", "list", "typing.Literal")):
        yield annotation
    else:
        for one in get_args(annotation):
            yield from flat(one)
