"""The version of each stage's code. Raise a number with a change that changes what the stage writes: its old outputs are then not reused.

Apart from the stages themselves so that a job can be planned without loading torch.
"""

VERSIONS = {
    "sources": 1,
    "select": 2,
    "translate": 2,
    "score": 2,
    "calibrate": 1,
    "mix": 3,
    "train": 2,
    "index": 1,
    "retrieve": 1,
    "evaluate": 1,
    "meta_sources": 1,
    "meta_start": 1,
    "meta_vectors": 1,
    "tasks": 1,
    "meta_train": 1,
    "meta_evaluate": 1,
    "compare": 1,
}
