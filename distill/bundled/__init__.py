"""A small multilingual student made from an English sentence encoder and parallel text, before any distillation.

`parallel` reads the text, `vocabulary` chooses the pieces, `english` takes the English encoder's states, `alignment` finds which words
translate which, `embeddings` makes the table, `contextual` optionally trains the network on carried states, and `recipe` joins them.
docs/student.md has the equations and what was measured.
"""
