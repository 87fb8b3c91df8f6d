"""The command `polyray`: every script of jobs/ as a subcommand, from any directory."""

import ast
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster import interrupts

GROUPS = {
    "methods, from raw text to a search endpoint": ("mtd", "td", "arm", "maml_align"),
    "one stage of a method, with the stages that it needs": (
        "sources",
        "translate",
        "mine",
        "score",
        "mix",
        "train",
        "index",
        "evaluate",
        "tasks",
    ),
    "after a job": ("serve", "export"),
    "before a job": ("init_student",),
}
SCRIPTS = tuple(name for names in GROUPS.values() for name in names)


def main() -> None:
    """Run the command line of this process and exit with its code."""
    interrupts.begin()
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run the script that the first argument names with the others; return the exit code: 2 where there is no such script."""
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(help_text())
        return 0
    name, *rest = arguments
    if name not in SCRIPTS:
        from distill.settings.load import ConfigError
        from jobs.running.programs import run_program

        def refuse() -> None:
            raise ConfigError(f"there is no command '{name}'; there are {', '.join(SCRIPTS)}")

        return run_program("polyray", refuse)
    return importlib.import_module(f"jobs.{name}").main(rest)


def help_text() -> str:
    """Return the commands with one line each, read from their scripts without importing them."""
    lines = [
        "Polyray: multilingual neural search on Ray.",
        "",
        "usage: polyray COMMAND [OPTIONS]; polyray COMMAND --help",
    ]
    for title, names in GROUPS.items():
        lines += ["", f"{title}:", *(f"  {name:<13} {_summary(name)}" for name in names)]
    return "\n".join(lines)


def _summary(name: str) -> str:
    from jobs.running.programs import as_typed

    source = (Path(__file__).parents[1] / f"{name}.py").read_text(encoding="utf-8")
    return as_typed((ast.get_docstring(ast.parse(source)) or "").splitlines()[0])


if __name__ == "__main__":
    main()
