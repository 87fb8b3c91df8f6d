"""Small translation programs for CommandTranslator: a dictionary and its habits."""

import sys
from typing import Any

from distill.translate.settings import CommandTranslator

# Words are translated one by one; some words make the program misbehave.
DICTIONARY = """
import json, os, signal, sys
words = {"the": "die", "bees": "Bienen", "dance": "tanzen", "they": "sie", "sing": "singen", "hive": "Stock", "see": "sehen", "we": "wir"}
for line in sys.stdin:
    text = json.loads(line)["text"]
    if "deadly" in text and len(sys.argv) > 1:
        os.kill(int(open(sys.argv[1]).read()) if os.path.exists(sys.argv[1]) else os.getppid(), signal.SIGKILL)
    if "silent" in text:
        new = ""
    elif "copy" in text:
        new = text
    elif "loop" in text:
        new = "und so weiter " * 9
    else:
        cores = [(word.rstrip(".!?"), word) for word in text.split()]
        new = " ".join(words.get(core.lower(), core) + word[len(core):] for core, word in cores)
    print(json.dumps({"text": new, "truncated": "cut" in text}))
    print(text, file=open(sys.argv[2], "a")) if len(sys.argv) > 2 else None
"""


def dictionary(*arguments: str, name: str = "dictionary", **settings: Any) -> CommandTranslator:
    """A translator that knows eight words. `silent`, `copy`, `loop`, `cut` in a sentence do what they say; with an argument `deadly`
    kills the process that asked. A second argument is a file to which every sentence is appended that the program reads."""
    return CommandTranslator(command=(sys.executable, "-c", DICTIONARY, *arguments), name=name, **settings)


def prefix(text: str, name: str = "prefix") -> CommandTranslator:
    """A translator that answers every sentence with `text`."""
    program = "import sys\nfor line in sys.stdin: print(sys.argv[1])"
    return CommandTranslator(command=(sys.executable, "-c", program, text), name=name, format="lines")


def directions() -> CommandTranslator:
    """A translator that puts the two languages before every sentence: `de-en dance`."""
    program = (
        "import json, sys\nfor line in sys.stdin:\n row = json.loads(line)\n"
        " print(json.dumps({'text': f\"{row['source_lang']}-{row['lang']} {row['text']}\"}))"
    )
    return CommandTranslator(command=(sys.executable, "-c", program), name="directions")
