"""Transfer modes: the languages that a meta-task transfers from and to (arXiv 2309.08185)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Mode = Literal["mono_mono", "mono_bi", "mono_multi", "bi_multi", "mixed", "trans", "mono_bi_multi"]
SimpleMode = Literal["mono_mono", "mono_bi", "mono_multi", "bi_multi", "mono_bi_multi"]
SetKind = Literal["mono", "bi", "multi"]
MODES: tuple[Mode, ...] = get_args(Mode)

_PARTS: dict[Mode, tuple[SimpleMode, ...]] = {
    "mono_mono": ("mono_mono",),
    "mono_bi": ("mono_bi",),
    "mono_multi": ("mono_multi",),
    "bi_multi": ("bi_multi",),
    "mono_bi_multi": ("mono_bi_multi",),
    "mixed": ("mono_mono", "mono_bi", "mono_multi", "bi_multi"),
    "trans": ("mono_bi", "bi_multi"),
}
_NEEDS: dict[SimpleMode, str] = {
    "mono_mono": "a_a-b_b",
    "mono_bi": "a_a-a_b",
    "mono_multi": "a_a-a_b,a",
    "bi_multi": "a_b-a_b,a",
    "mono_bi_multi": "a_a-a_b-a_b,a,c",
}
# Two or three small letters always begin a language, so that `-` can join both sets and the parts of a language code.
_LANGUAGE = r"[a-z]{2,3}(?:-(?![a-z]{2,3}(?![A-Za-z0-9]))[A-Za-z0-9]+)*"
_SET = rf"{_LANGUAGE}_{_LANGUAGE}(?:,{_LANGUAGE})*"
_TRANSFER = rf"{_SET}(?:-{_SET}){{1,2}}"


@dataclass(frozen=True)
class LanguageSet:
    """The languages of one set of a task.

    Attributes:
        query_lang: the language of its questions, or first sentences.
        candidate_langs: the languages of its candidates, or second sentences.

    Raises:
        ValueError: no candidate language, one named twice, or a code that the notation could not be read back with.
    """

    query_lang: str
    candidate_langs: tuple[str, ...]

    def __post_init__(self) -> None:
        for language in (self.query_lang, *self.candidate_langs):
            if not re.fullmatch(_LANGUAGE, language):
                raise ValueError(
                    f"'{language}' is no language code; write regions and scripts as in BCP 47 (`pt-BR`, `zh-Hant`)"
                )
        if not self.candidate_langs or len(set(self.candidate_langs)) < len(self.candidate_langs):
            raise ValueError(f"'{self}': name each candidate language once, and at least one")

    def __str__(self) -> str:
        return f"{self.query_lang}_{','.join(self.candidate_langs)}"

    @property
    def kind(self) -> SetKind:
        """One candidate language, the question's (mono) or another (bi), or several (multi)."""
        if len(self.candidate_langs) > 1:
            return "multi"
        return "mono" if self.candidate_langs == (self.query_lang,) else "bi"


@dataclass(frozen=True)
class Transfer:
    """The sets of a task, in order: support, query, and in a chain a second query set. `str` gives the notation that `parse` reads."""

    sets: tuple[LanguageSet, ...]

    @classmethod
    def parse(cls, text: str) -> "Transfer":
        """Read `el_el-el_ar` or, as a chain, `el_el-el_ar-el_ar,el,hi`.

        Raises:
            ValueError: another form, or a candidate language named twice in a set.
        """
        if not re.fullmatch(_TRANSFER, text):
            raise ValueError(
                f"transfer '{text}' is not `support-query` or `support-query-query`, each `question_candidates` with candidate languages "
                "apart by commas, such as `el_el-el_ar` or `el_el-el_ar-el_ar,el,hi`"
            )
        sets = (one.split("_") for one in re.findall(_SET, text))
        return cls(tuple(LanguageSet(query_lang, tuple(langs.split(","))) for query_lang, langs in sets))

    def __str__(self) -> str:
        return "-".join(map(str, self.sets))

    @property
    def languages(self) -> tuple[str, ...]:
        """Its languages, each once, as they come."""
        return tuple(dict.fromkeys(lang for one in self.sets for lang in (one.query_lang, *one.candidate_langs)))


def mode_of(transfer: Transfer) -> SimpleMode:
    """Return the mode of a transfer.

    Raises:
        ValueError: the transfer is of no mode; the message says why.
    """
    kinds = "_".join(one.kind for one in transfer.sets)
    mode: SimpleMode | None = next((mode for mode in _NEEDS if mode == kinds), None)
    if mode is None:
        forms = ", ".join(f"{mode} ({form})" for mode, form in _NEEDS.items())
        raise ValueError(f"transfer '{transfer}' is {kinds}, and no such mode exists; there are {forms}")
    asked = list(dict.fromkeys(one.query_lang for one in transfer.sets))
    form = f"{mode} ({_NEEDS[mode]})"
    if mode == "mono_mono" and len(asked) == 1:
        raise ValueError(
            f"transfer '{transfer}' stays in '{asked[0]}'; {form} needs a second language in its query set"
        )
    if mode != "mono_mono" and len(asked) > 1:
        raise ValueError(f"transfer '{transfer}' asks in {' and '.join(asked)}; {form} asks in one language throughout")
    return mode


def check_mode(mode: Mode, transfers: Sequence[Transfer]) -> None:
    """Check that transfers are of `mode`, and of every mode of a union.

    Raises:
        ValueError: names the transfer, its mode and what `mode` needs.
    """
    wanted = modes_in(mode)
    modes = [mode_of(transfer) for transfer in transfers]
    for transfer, one in zip(transfers, modes, strict=True):
        if one not in wanted:
            raise ValueError(
                f"transfer '{transfer}' is of mode {one}; mode {mode} needs {_forms(wanted)}{_lacking(transfer, wanted)}"
            )
    absent: list[SimpleMode] = [one for one in wanted if one not in modes]
    if absent:
        given = ", ".join(map(str, transfers)) or "nothing"
        raise ValueError(f"mode {mode} needs transfers of all its modes: {given} lacks {_forms(absent)}")


def of_mode(mode: Mode, transfers: Sequence[Transfer]) -> tuple[Transfer, ...]:
    """Return those of the transfers that are of a mode, or of one of the modes of a union, in their order.

    Raises:
        ValueError: one is of no mode.
    """
    return tuple(transfer for transfer in transfers if mode_of(transfer) in modes_in(mode))


def lacking_room(transfer: Transfer, shots: int, queries: int) -> str:
    """Return what is wrong where a set of a transfer has more candidate languages than triplets or pairs; an empty text if none has."""
    for number, one in enumerate(transfer.sets):
        name, size = ("tasks.queries", queries) if number else ("tasks.shots", shots)
        if size < len(one.candidate_langs):
            return (
                f"transfer '{transfer}': set '{one}' has {len(one.candidate_langs)} candidate languages, and {name} is {size}; raise it to "
                f"{len(one.candidate_langs)}, so that each occurs in every task"
            )
    return ""


def modes_in(mode: Mode) -> tuple[SimpleMode, ...]:
    """Return the modes that a mode consists of: itself, or those of a union."""
    return _PARTS[mode]


def _forms(modes: Sequence[SimpleMode]) -> str:
    return " or ".join(f"{_NEEDS[mode]} ({mode})" for mode in modes)


def _lacking(transfer: Transfer, wanted: Sequence[SimpleMode]) -> str:
    """Return what a transfer lacks for the wanted mode; an empty text if several modes are wanted."""
    if len(wanted) > 1:
        return ""
    kinds = wanted[0].split("_")
    if len(kinds) > len(transfer.sets):
        return f": a {kinds[-1]}lingual query set after '{transfer.sets[-1]}' is missing"
    if len(kinds) < len(transfer.sets):
        return f": '{transfer.sets[-1]}' is a set too many"
    for one, kind in zip(transfer.sets, kinds, strict=True):
        if one.kind != kind:
            return f": '{one}' is missing {_MISSING[kind]}"
    return ""


_MISSING = {
    "mono": "nothing but its question's language as the candidates' (mono)",
    "bi": "exactly one candidate language, other than the question's (bi)",
    "multi": "a second candidate language (multi)",
}


def derived(mode: Mode, languages: tuple[str, ...]) -> tuple[Transfer, ...]:
    """Return the transfers of a mode, each language in turn being the first.

    With a, b and c three languages in a row (after the last comes the first): `mono_mono` a_a-b_b, `mono_bi` a_a-a_b, `mono_multi`
    a_a-a_b,a, `bi_multi` a_b-a_b,a, `mono_bi_multi` a_a-a_b-a_b,a,c. `mixed` has the first four of a language, then those of the next;
    `trans` all of mono_bi, then all of bi_multi.

    Raises:
        ValueError: fewer than two languages, three for `mono_bi_multi`, or one of them twice.
    """
    least = 3 if mode == "mono_bi_multi" else 2
    known = tuple(dict.fromkeys(languages))
    if len(known) < len(languages):
        raise ValueError(f"languages {list(languages)} names a language twice")
    if len(known) < least:
        names = ", ".join(known) or "none"
        raise ValueError(
            f"mode {mode} needs {least} languages, and there are {len(known)} ({names}): add {least - len(known)}"
        )
    starts = range(len(known))
    if mode == "trans":
        return tuple(_from(one, known, start) for one in modes_in(mode) for start in starts)
    return tuple(_from(one, known, start) for start in starts for one in modes_in(mode))


def _from(mode: SimpleMode, languages: tuple[str, ...], start: int) -> Transfer:
    """Return the transfer of a mode whose first language is at position `start`."""
    a, b, c = (languages[(start + step) % len(languages)] for step in range(3))
    mono, bi, multi = LanguageSet(a, (a,)), LanguageSet(a, (b,)), LanguageSet(a, (b, a))
    match mode:
        case "mono_mono":
            return Transfer((mono, LanguageSet(b, (b,))))
        case "mono_bi":
            return Transfer((mono, bi))
        case "mono_multi":
            return Transfer((mono, multi))
        case "bi_multi":
            return Transfer((bi, multi))
        case "mono_bi_multi":
            return Transfer((mono, bi, LanguageSet(a, (b, a, c))))


def phases(transfers: Sequence[Transfer]) -> tuple[tuple[Transfer, ...], ...]:
    """Return the transfers in the groups that have equal shares of the tasks, one group after the other.

    That is one group, but for transfers of mono_bi and bi_multi and no other mode, which are those of `trans`: mono_bi, then bi_multi.

    Raises:
        ValueError: there is no transfer, or together they are of no mode.
    """
    modes = [mode_of(transfer) for transfer in transfers]
    if not any(set(modes) == set(parts) for parts in _PARTS.values()):
        given = ", ".join(map(str, transfers)) or "none"
        raise ValueError(
            f"transfers {given} are of no mode together, but of {', '.join(dict.fromkeys(modes)) or 'nothing'}"
        )
    if set(modes) != set(_PARTS["trans"]):
        return (tuple(transfers),)
    return tuple(
        tuple(transfer for transfer, mode in zip(transfers, modes, strict=True) if mode == part)
        for part in _PARTS["trans"]
    )


def transfer_at(groups: Sequence[Sequence[Transfer]], position: int, tasks: int) -> Transfer:
    """Return the transfer of task number `position` of `tasks`: the transfers of a phase take turns, in their order.

    If the tasks cannot be divided equally, the first phase has one more.
    """
    number = position * len(groups) // tasks
    first = -(-number * tasks // len(groups))
    return groups[number][(position - first) % len(groups[number])]
