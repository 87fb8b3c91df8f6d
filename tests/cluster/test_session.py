"""Which cluster a session takes, and what it says of one that is not there."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from cluster import session as module
from cluster.session import Need, Session, SessionError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_cluster_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_without_an_address_it_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Session().local
    assert Session("local").local
    assert not Session("10.0.0.1:6379").local
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert not Session().local
    assert Session("local").local


def test_a_session_that_needs_nothing_starts_nothing() -> None:
    """Not even the import of ray; so a job whose stages are all done is quick."""
    script = (
        "import sys; from cluster.session import Session\n"
        "with Session() as session:\n"
        "    session.check([]); session.check([], autoscales=True)\n"
        "print('ray' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout == "False\n"


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_an_address_where_nothing_listens_is_refused_at_once(form: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(
        SessionError, match=rf"^no Ray cluster answers at {form.format(port)}: .*check cluster.address and RAY_ADDRESS$"
    ):
        Session(form.format(port))._check_address()
    assert time.monotonic() - started < module._CONNECT_TIMEOUT_S


def test_an_address_that_answers_is_let_through() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        Session(f"127.0.0.1:{server.getsockname()[1]}")._check_address()
    Session("auto")._check_address()


def test_errors_of_ray_become_one_line() -> None:
    def said(address: str | None, text: str) -> str:
        return Session(address)._explain(RuntimeError(text))

    assert said("10.0.0.1:6379", "timed\n  out") == "no Ray cluster answers at 10.0.0.1:6379: timed out"
    assert said(None, "no space left") == "a local Ray cannot start: no space left"
    assert said("10.0.0.1:6379", "Missing authentication token") == (
        "the cluster at 10.0.0.1:6379 asks for a token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (Missing authentication token)"
    )


def test_parts_of_a_gpu_and_of_a_cpu_are_counted_by_node(ray_session: None) -> None:
    """Eight CPUs on one node: sixteen halves, two times three, but no nine."""
    session = Session()
    session.check([Need("score", 16, 0.5, 0.0, "score.pool"), Need("train", 2, 3.0, 0.0, "train.workers")])
    for count, each in ((17, 0.5), (3, 3.0), (1, 9.0)):
        with pytest.raises(SessionError, match=rf"train asks for {count} x {each:g} CPUs at once \(train.workers\)"):
            session.check([Need("train", count, each, 0.0, "train.workers")])


def test_a_ray_that_was_there_before_goes_on(ray_session: None) -> None:
    import ray

    there = ray.get_runtime_context().get_node_id()
    with Session() as session:
        session.connect()
        assert ray.get_runtime_context().get_node_id() == there
    assert ray.is_initialized()
    assert ray.get(ray.put(5)) == 5


def test_a_deep_folder_for_temporary_files_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/short")
    assert module._short_temp_dir() == "/tmp/short/ray"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("deep" * 10)))
    assert module._short_temp_dir() == "/tmp/ray"


LOCAL = """
import ray
from cluster.session import Session
with Session(None, 3) as session:
    session.connect()
    print(ray.cluster_resources()["CPU"])
print(ray.is_initialized())
"""


@pytest.mark.ray
def test_a_local_session_does_not_join_a_cluster_of_the_machine() -> None:
    """Ray alone would join the cluster that was last started below its folder for temporary files, or fail where it is gone."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp", ignore_cleanup_errors=True) as folder:
        (Path(folder) / "ray").mkdir()
        (Path(folder) / "ray" / "ray_current_cluster").write_text("127.0.0.1:9")
        variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_A")}
        found = subprocess.run(
            [sys.executable, "-c", LOCAL], cwd=ROOT, env=variables | {"TMPDIR": folder, "RAY_AUTH_MODE": "token", "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert found.stdout == "3.0\nFalse\n"
    assert found.stderr == ""
