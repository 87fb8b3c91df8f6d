from pathlib import Path

import numpy as np
import pytest
import torch

from cluster.stored_table import StoredTable
from distill.formats.vectors import flat_lists, passage_blocks
from distill.numerics.blocks import block_maxsim
from distill.tables import VECTORS
from tests.workspaces import LocalWorkspace


def test_blocks_hold_every_passage_once_and_are_bounded(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    vectors = [random.normal(size=(length, 4)).astype(np.float16) for length in [5, 1, 0, 9, 3, 3, 8, 1, 30, 2]]
    workspace = LocalWorkspace(tmp_path)
    workspace.write("vectors", VECTORS.from_rows({"position": i, "vectors": v.ravel()} for i, v in enumerate(vectors)))
    stored = StoredTable.open(workspace.filesystem, f"{workspace.folder}/vectors")
    query = torch.from_numpy(random.normal(size=(1, 3, 4)).astype(np.float32))
    expected = {
        i: float((query[0].numpy() @ v.astype(np.float32).T).max(axis=1).sum()) if len(v) else 0.0
        for i, v in enumerate(vectors)
    }
    for limit in (20, 300, None):  # 1, 2 and all rows at a time
        scores: list[tuple[int, float]] = []
        for positions, block in passage_blocks(stored, 4, limit):
            assert limit is None or block.shape[0] * block.shape[1] <= limit or block.shape[1] == 1
            scores += zip(positions.tolist(), block_maxsim(query, block)[0].tolist(), strict=True)
        assert len(scores) == len(vectors)
        assert dict(scores) == {i: pytest.approx(score, abs=1e-5) for i, score in expected.items()}


@pytest.mark.parametrize(("dtype", "name"), [(torch.float16, "halffloat"), (torch.float32, "float")])
def test_vectors_as_flat_lists(dtype: torch.dtype, name: str) -> None:
    lists = flat_lists([torch.tensor([[1.0, 0.5], [2.0, -1.0]]), torch.empty(0, 2)], dtype)
    assert str(lists.type) == f"list<item: {name}>"
    assert lists.to_pylist() == [[1.0, 0.5, 2.0, -1.0], []]
