"""The section of the model card on loading a student, with Polyray and with other projects."""

from distill.encoders.readers import differences, traits_of_settings
from distill.encoders.settings import SingleVectorStudent, StudentSettings

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

PyLate (`pylate.models.ColBERT("path/to/this/folder")`) and PLAID-X read the same folder. What readers do differently:"""

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
    """Return the section, in Markdown, with the differences of other readers of the folder."""
    if isinstance(student, SingleVectorStudent):
        return _single_vector(student)
    lines = [f"- {line}" for line in differences(traits_of_settings(student))]
    return "\n".join([_LATE_INTERACTION, "", *lines])


def _single_vector(student: SingleVectorStudent) -> str:
    if not student.sizes:
        return _SINGLE_VECTOR
    size = student.sizes[0]
    return (
        f"{_SINGLE_VECTOR}\n\nThe vectors can be cut to {' or '.join(map(str, student.sizes))} numbers: "
        f'`load_single_vector("path/to/this/folder", dim={size})`, or '
        f'`SentenceTransformer("path/to/this/folder", truncate_dim={size})`.'
    )
