"""How a student is loaded, with Polyray and with other projects: a section of its model card."""

from distill.encoders.settings import LateInteractionStudent, SingleVectorStudent, StudentSettings

_LATE_INTERACTION = """The folder is in the HF_ColBERT layout. With Polyray:

```python
from distill.encoders.checkpoints import load_late_interaction

encoder = load_late_interaction("path/to/this/folder")
queries = encoder.encode_queries(["..."])  # one matrix of token vectors for each query
passages = encoder.encode_passages(["...", "..."])  # a list of matrices
scores = [(queries[0] @ passage.T).amax(dim=1).sum() for passage in passages]
```

With sentence-transformers 6:

```python
from sentence_transformers import MultiVectorEncoder

model = MultiVectorEncoder("path/to/this/folder")
scores = model.similarity(model.encode_query(["..."]), model.encode_document(["...", "..."]))
```

PyLate (`pylate.models.ColBERT("path/to/this/folder")`) and PLAID-X read the same folder."""

_SINGLE_VECTOR = """The folder is in the layout of sentence-transformers. With Polyray:

```python
from distill.encoders.checkpoints import load_single_vector

encoder = load_single_vector("path/to/this/folder")
queries = encoder.encode_queries(["..."])  # [queries, 1, numbers]
passages = encoder.encode_passages(["...", "..."])  # a list of matrices with one row
scores = [(queries[0] @ passage.T).item() for passage in passages]
```

With sentence-transformers:

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/to/this/folder")
scores = model.similarity(model.encode_query(["..."]), model.encode_document(["...", "..."]))
```"""


def loading(student: StudentSettings) -> str:
    """The section, in Markdown, with what other readers of the folder do differently."""
    if isinstance(student, SingleVectorStudent):
        return _single_vector(student)
    return "\n".join([f"{_LATE_INTERACTION} {_markers(student)}", *_differences(student)])


def _single_vector(student: SingleVectorStudent) -> str:
    if not student.sizes:
        return _SINGLE_VECTOR
    size = student.sizes[0]
    return (
        f"{_SINGLE_VECTOR}\n\nThe vectors can be cut to {' or '.join(map(str, student.sizes))} numbers: "
        f'`load_single_vector("path/to/this/folder", dim={size})`, or '
        f'`SentenceTransformer("path/to/this/folder", truncate_dim={size})`.'
    )


def _markers(student: LateInteractionStudent) -> str:
    same, other = ("PyLate", "PLAID-X") if student.marker_mode == "insert" else ("PLAID-X", "PyLate")
    return (
        f"The query and passage markers are placed as {same} places them (`marker_mode: {student.marker_mode}`); {other} "
        "places them differently with some tokenizers (XLM-R), and then gives somewhat different scores. "
        "sentence-transformers places them as PyLate does."
    )


def _differences(student: LateInteractionStudent) -> list[str]:
    lines = []
    if not student.query_expansion:
        lines.append(
            "- Queries are not expanded with [MASK] tokens, which this layout cannot tell the others: they expand them. "
            "`jobs/export.py student --format sentence_transformers` writes a folder that sentence-transformers reads right."
        )
    if not student.mask_punctuation:
        lines.append(
            "- Punctuation of passages takes part in the score; PyLate leaves it out (`skiplist_words=[]` keeps it)."
        )
    if (student.skip_list, student.marker_mode) in {("first_piece", "insert"), ("token", "overwrite")}:
        other = "PyLate's and sentence-transformers'" if student.marker_mode == "insert" else "PLAID-X's"
        lines.append(
            f"- The skip-list (`skip_list: {student.skip_list}`) is not {other}; with some tokenizers (XLM-R) it has other tokens."
        )
    return ["", *lines] if lines else []
