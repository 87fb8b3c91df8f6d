"""Reported inputs of evaluation and judgements."""

from pathlib import Path

from jobs.serve import locations
from tests.cases import case
from tests.jobs_small import SmallJob


def test_training_queries_only_end_with_a_run_that_can_be_used(
    ray_session: None, tmp_path: Path, tiny_cross_encoder: Path
) -> None:
    """No query of the split is judged: the job says so first, trains, and leaves a run to serve and to export."""
    case("18-no-test-queries")
    data = case("05-passage-tokens-beyond-positions") / "data"
    source = {"type": "files", "root": str(data), "passages": ["p.jsonl"], "queries": ["q.tsv"]}
    overrides = (
        ("languages", ["de"]),
        ("source", source),
        ("translate", {"by": {"type": "precomputed", "files": {"de": [str(data / "de.jsonl")]}}}),
        ("select.by", {"type": "bm25", "top_k": 6}),
        ("train", {"learning_rate": 1e-3, "batch_size": 4, "steps": 1}),
        ("score.check.allow", ["constant", "random", "truncated", "saturated"]),
    )
    job = SmallJob(tmp_path, tiny_cross_encoder, overrides=overrides)
    finished = job.run_here().done()
    why = (
        "0 queries in split 'test' and language 'en' (evaluate.split, evaluate.query_lang), none of them judged; "
        "no query is judged at all"
    )
    lines = finished.out.splitlines()
    [said] = (line for line in lines if line.startswith("left out"))
    assert said == f"left out: retrieve, evaluate: {why}"
    assert f"not evaluated: {why}" in lines
    checkpoint, index = locations(str(Path(job.store) / "runs/small"))
    assert Path(checkpoint, "model.safetensors").is_file()
    assert Path(index, "documents").is_dir()
