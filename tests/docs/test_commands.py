"""Every command that README and documents show, as they show it.

They run in a folder that looks like a checkout, on the embedded default with few training steps (which environment variables say), on a
collection that the test writes, or as far as they can without a cluster, a hub or a data set: then with `--print-config`, which reads
files, names and settings.
"""

import gzip
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.docs.test_own_data import write_collection
from tests.jobs_small import Driver, Finished, environment, run_script
from tests.serve.samples import free_port

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`((?:python jobs/|polyray )[^`]+)`")
FEW_STEPS = {
    "POLYRAY_TRAIN__STEPS": "2",
    "POLYRAY_TRAIN__WARMUP_STEPS": "0",
    "POLYRAY_TRAIN__WORKERS": "1",
    "POLYRAY_EVALUATE__ENGLISH_BASELINE": "false",
    **{f"POLYRAY_{stage}__POOL__{bound}_ACTORS": "1" for stage in ("SCORE", "INDEX") for bound in ("MIN", "MAX")},
}
FEW_META_STEPS = {"POLYRAY_TRAIN__STEPS": "1", "POLYRAY_TASKS__TASKS": "6"}
CI = "a step of .ci/run"
ELSEWHERE = {
    "python3 -m venv .venv": CI,
    ". .venv/bin/activate": CI,
    "pip install torch==2.13.0": CI,
    "pip install -e '.[embedded]'": CI,
    "python3 -m venv .venv-test": CI,
    ". .venv-test/bin/activate": CI,
    "pip install -e '.[dev]'": CI,
    "pytest -n 2 --dist loadfile": CI,
    "ruff check .": CI,
    "ruff format --check .": CI,
    "pyright": CI,
    "python jobs/mtd.py --config jobs/configs/quickstart.yaml --config mine.yaml --select.by.top_k 50 --mix.group 1": (
        "tests/docs/test_own_data.py"
    ),
    "PYTHON=$(which python) infra/vllm-env.sh /opt/polyray-vllm": "gigabytes of packages; its syntax is checked here",
}
"""Commands that do not run here: where, or why."""


def commands(document: str) -> list[str]:
    """Return the commands of a document's blocks, without comments; one that goes on in the next line is one command."""
    text = (ROOT / document).read_text(encoding="utf-8")
    lines = "\n".join(BLOCK.findall(text)).replace("\\\n", " ").splitlines()
    stripped = (re.sub(r"(^|\s+)#( .*)?$", "", line).strip() for line in lines)
    return [re.sub(r"\s+", " ", line) for line in stripped if line]


def every_command() -> list[str]:
    documents = subprocess.check_output(["git", "ls-files", "*.md"], cwd=ROOT, text=True).split()
    return [command for document in documents for command in commands(document)]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the project's scripts lie as they do in a checkout."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("jobs", "infra", "tests", "README.md", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def here(command: str, folder: Path, variables: dict[str, str] | None = None) -> Finished:
    """Run `python jobs/X.py ...` in this process, on the Ray of the tests."""
    python, file, *arguments = shlex.split(command)
    assert python == "python"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (variables or {}).items():
            patch.setenv(name, value)
        return run_script(file, arguments, folder)


def test_every_command_is_run_by_a_test() -> None:
    """A command that is new in a document is to be run here too."""
    known = {*ELSEWHERE, *QUICKSTART, *METHODS, *OWN_DATA, *PRINTED, *SERVED, *EXPORTED, *COLLECTED, *TASKS}
    found = every_command()
    assert sorted({*found} - known) == []
    assert sorted(known - {*found}) == [], "no document shows these"


def test_what_ci_runs_is_what_the_readme_shows() -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert re.findall(r"^run_block (\w+)$", script, re.MULTILINE) == ["try", "test"]
    blocks = [
        block for block in BLOCK.findall((ROOT / "README.md").read_text()) if block.startswith(("# try", "# test"))
    ]
    shown = {line for block in blocks for line in block.splitlines() if not line.startswith("#")}
    assert {command for command, why in ELSEWHERE.items() if why == CI} | {"python jobs/mtd.py"} == shown


def test_inline_commands_are_understood(checkout: Path) -> None:
    documents = subprocess.check_output(["git", "ls-files", "*.md"], cwd=ROOT, text=True).split()
    found = {match for document in documents for match in INLINE.findall((ROOT / document).read_text(encoding="utf-8"))}
    assert len(found) > 5
    (checkout / "CHECKPOINT").unlink(missing_ok=True)
    for command in sorted(found):
        words = shlex.split(command.replace("CHECKPOINT", "bundled:student"))
        script = words[1] if words[0] == "python" else f"jobs/{words[1]}.py" if words[1] != "--help" else "jobs/mtd.py"
        rest = [*words[2:], "--help"] if Path(script).stem in {"serve", "export"} else [*words[2:], "--print-config"]
        if words[-1] == "mine.yaml":
            write_own_data(checkout)
        finished = here(shlex.join(["python", script, *rest]), checkout)
        assert (finished.code, finished.err) == (0, ""), (command, finished)


PRINTED = (
    "ray job submit --working-dir . -- python jobs/mtd.py --config jobs/configs/mtd_neuclir.yaml --storage s3://bucket/polyray",
    "ray job submit --working-dir . -- python jobs/mtd.py --config mine.yaml --storage s3://bucket/polyray",
    "python jobs/maml_align.py --config jobs/configs/maml_lareqa.yaml --source.path lareqa/xquad-r",
)
"""A cluster, a bucket or a data set is missing here: their settings are read. Submission is tested in tests/jobs/test_submit.py."""


@pytest.mark.parametrize("command", PRINTED)
def test_configurations_for_clusters_are_read(command: str, checkout: Path) -> None:
    write_own_data(checkout)
    python = command.removeprefix("ray job submit --working-dir . -- ")
    finished = here(f"{python} --print-config", checkout)
    assert (finished.code, finished.err) == (0, "")
    assert f"storage: {'s3://bucket/polyray' if 's3://' in command else 'polyray-data'}" in finished.out


COLLECTED = (
    "pytest tests/distill/train/test_losses.py",
    "pytest tests/distill/train/test_losses.py -k margin",
    "pytest tests/distill/train",
    'pytest -m "not ray"',
)


def test_selections_of_tests_select_some() -> None:
    for command in COLLECTED:
        _, *words = shlex.split(command)
        selected = [ROOT / word for word in words if "/" in word]
        assert all(path.exists() for path in selected), command
        if "-k" in words:
            assert re.search(rf"def test_\w*{words[words.index('-k') + 1]}", selected[0].read_text(encoding="utf-8"))
    markers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"][
        "markers"
    ]
    assert any(marker.startswith("ray:") for marker in markers)


def test_scripts_of_other_environments_are_sound() -> None:
    subprocess.run(["bash", "-n", str(ROOT / "infra/vllm-env.sh")], check=True)


QUICKSTART = (
    "python jobs/mtd.py",
    "python jobs/mtd.py --plan",
    "python jobs/mtd.py --help",
    "python jobs/mtd.py --help score",
    "python jobs/mtd.py --print-config",
)


@pytest.fixture(scope="module")
def quickstart(ray_session: None, checkout: Path) -> Finished:
    """The README's first job, with few steps."""
    return here("python jobs/mtd.py", checkout, FEW_STEPS).done()


def test_the_quickstart_and_what_follows_it(quickstart: Finished, checkout: Path) -> None:
    assert (checkout / "polyray-data/runs/quickstart/run.json").is_file()
    assert "student" in quickstart.out
    again = here("python jobs/mtd.py", checkout, FEW_STEPS).done()
    assert set(again.reused.values()) == {True}
    plan = here("python jobs/mtd.py --plan", checkout, FEW_STEPS).done()
    assert plan.out.splitlines()[-1].startswith(f"0 of {len(again.reused)} stages to run")
    assert "--plan" in here("python jobs/mtd.py --help", checkout).done().out
    assert "--score.teacher" in here("python jobs/mtd.py --help score", checkout).done().out
    assert "name: quickstart" in here("python jobs/mtd.py --print-config", checkout).done().out


EXPORTED = (
    "python jobs/export.py student --run polyray-data/runs/quickstart --format sentence_transformers --out student",
    "python jobs/export.py scores --run polyray-data/runs/quickstart --format tdist --out scores.jsonl.gz",
    "python jobs/export.py examples --run polyray-data/runs/quickstart --format pylate --out examples",
    "python jobs/export.py scores --run polyray-data/runs/mtd --format tdist --out scores.jsonl.gz",
    "python jobs/export.py scores --config my.yaml --stage score_0 --format trec --out s3://bucket/teacher.run",
)


def test_exports_of_the_quickstart(quickstart: Finished, checkout: Path) -> None:
    for command in EXPORTED[:3]:
        here(command, checkout).done()
    assert (checkout / "student/modules.json").is_file()
    assert next(iter((checkout / "examples").iterdir())).name
    with gzip.open(checkout / "scores.jsonl.gz", "rt", encoding="utf-8") as file:
        query, *scored = json.loads(next(file))
    assert isinstance(query, str)
    assert len(scored) == 240
    (checkout / "scores.jsonl.gz").unlink()
    here(EXPORTED[3].replace("runs/mtd", "runs/quickstart"), checkout).done()
    assert (checkout / "scores.jsonl.gz").is_file()


def test_export_of_one_teacher_of_several(ray_session: None, checkout: Path, s3_bucket: str) -> None:
    write_own_data(checkout)
    teachers = [{"type": "bi_encoder"}, {"type": "bi_encoder", "max_query_tokens": 16}]
    own = (checkout / "mine.yaml").read_text(encoding="utf-8")
    check = json.dumps({"allow": ["constant", "random", "truncated"]})
    ensemble = f"score: {{teacher: {{type: ensemble, teachers: {json.dumps(teachers)}}}, check: {check}}}\n"
    (checkout / "my.yaml").write_text(f"{own}{ensemble}", encoding="utf-8")
    here("python jobs/mtd.py --config my.yaml --until score", checkout).done()
    here(EXPORTED[4].replace("s3://bucket", s3_bucket), checkout).done()


METHODS = (
    "python jobs/td.py",
    "python jobs/arm.py",
    "python jobs/mtd.py --method translate_train",
)


@pytest.mark.parametrize("command", METHODS)
def test_other_methods(command: str, ray_session: None, checkout: Path) -> None:
    finished = here(command, checkout, FEW_STEPS).done()
    assert "student" in finished.out
    assert finished.reused["train"] is False


TASKS = ("python jobs/maml_align.py", "python jobs/tasks.py --show 5")


def test_meta_learning(ray_session: None, checkout: Path) -> None:
    assert here("python jobs/maml_align.py", checkout, FEW_META_STEPS).done().reused
    assert "task" in here("python jobs/tasks.py --show 5", checkout, FEW_META_STEPS).done().out


def write_own_data(folder: Path) -> None:
    """Write the configuration and the collection of the README's "Your own data"."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Your own data")[2]
    config = re.search(r"```yaml\n(name: mine\n.*?)```", section, re.DOTALL)
    assert config is not None
    (folder / "mine.yaml").write_text(config[1], encoding="utf-8")
    if not (folder / "data").exists():
        write_collection(folder / "data")


OWN_DATA = ("python jobs/mtd.py --config mine.yaml --until calibrate", "python jobs/score.py --config mine.yaml")


def test_scores_of_own_data(ray_session: None, checkout: Path) -> None:
    """With the small teacher and student, for want of a hub."""
    write_own_data(checkout)
    models = "--student.start.model bundled:student --score.teacher.type bi_encoder --score.teacher.model bundled:all-MiniLM-L6-v2"
    for command in OWN_DATA:
        assert list(here(f"{command} {models}", checkout).done().reused)[-1] == "calibrate"


SEARCH = """\
curl http://127.0.0.1:8000/search -H 'Content-Type: application/json' \
-d '{"query": "How do honey bees tell each other where food is?", "k": 3, "langs": ["de", "zh"]}'"""
SERVED = ("python jobs/serve.py --run polyray-data/runs/quickstart", SEARCH)


@pytest.fixture
def served(quickstart: Finished, checkout: Path, ray_processes: None) -> Iterator[int]:
    """The endpoint of the quickstart, started as the README says, on a port that is free."""
    port = free_port()
    python, *words = shlex.split(SERVED[0])
    assert python == "python"
    variables = environment(POLYRAY_SERVE__PORT=str(port))
    driver = Driver([sys.executable, *words], checkout, variables)
    try:
        driver.wait_until("it answers", lambda: answers(port), 180)
        yield port
    finally:
        driver.end()


def answers(port: int) -> bool:
    """Return true if the endpoint answers."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def test_the_endpoint_answers_the_request_of_the_readme(served: int) -> None:
    command = SERVED[1].replace(":8000/", f":{served}/")
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["query"] == "How do honey bees tell each other where food is?"
    assert [result["rank"] for result in answer["results"]] == [1, 2, 3]
    assert {result["lang"] for result in answer["results"]} <= {"de", "zh"}
