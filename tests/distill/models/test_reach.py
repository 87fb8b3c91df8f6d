"""Models before they are loaded: the hub is asked once, and every answer is one line."""

import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from distill.models.fetch import fetch_folder
from distill.models.locate import BUNDLED_STUDENT, ModelError
from distill.models.reach import UnreachableError, check_hub, check_model
from distill.plan.estimates import read_shape


class Hub(BaseHTTPRequestHandler):
    """A hub with one model; its answers are those of huggingface.co."""

    def do_HEAD(self) -> None:
        self.server.asked.append(self.path)  # pyright: ignore[reportAttributeAccessIssue]
        status, code = 404, "RepoNotFound"
        if self.path.startswith("/some/model/"):
            status, code = (200, "") if "/main/" in self.path else (404, "RevisionNotFound")
        if self.path.startswith("/some/gated/"):
            status, code = 403, "GatedRepo"
        if self.path.startswith("/some/data/"):
            status, code = 404, "EntryNotFound"
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("ETag", '"1"')
        self.send_header("X-Repo-Commit", "c" * 40)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Write no log."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    server = HTTPServer(("127.0.0.1", 0), Hub)
    server.asked = []  # pyright: ignore[reportAttributeAccessIssue]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    online(monkeypatch, tmp_path, f"http://127.0.0.1:{server.server_port}")
    yield server.asked  # pyright: ignore[reportAttributeAccessIssue]
    server.shutdown()
    thread.join()
    server.server_close()


def online(monkeypatch: pytest.MonkeyPatch, cache: Path, endpoint: str) -> None:
    check_hub.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.mark.parametrize(
    ("model", "revision", "said"),
    [
        (
            "some/nothing",
            None,
            r"'some/nothing' is no local folder, and the Hugging Face hub shows no model of that name",
        ),
        ("some/gated", None, r"'some/gated' is gated: accept its terms"),
        ("some/model", "v9", r"the Hugging Face hub has no revision v9 of 'some/model'"),
        ("some/data", None, r"'some/data' has no config\.json on the Hugging Face hub"),
        ("not a name", None, r"'not a name' is neither a local folder nor a name"),
    ],
)
def test_what_the_hub_does_not_have_is_said(hub: list[str], model: str, revision: str | None, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        check_model(model, revision)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, UnreachableError)


def test_a_model_of_the_hub_passes_with_one_request(hub: list[str]) -> None:
    check_model("some/model")
    check_model("some/model")
    assert hub == ["/some/model/resolve/main/config.json"]


def test_a_hub_that_does_not_answer_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    online(monkeypatch, tmp_path, "http://127.0.0.1:9")
    for look in (check_model, fetch_folder, lambda model: read_shape(model, None)):
        started = time.monotonic()
        with pytest.raises(
            UnreachableError, match=r"'some/model' is not in the cache .* hub cannot be reached: .*refused"
        ):
            look("some/model")
        assert time.monotonic() - started < 5


def test_offline_only_the_cache_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    online(monkeypatch, tmp_path, "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        UnreachableError, match=r"'some/model' is no local folder and not in the cache .*HF_HUB_OFFLINE forbids"
    ):
        check_model("some/model")
    snapshot = tmp_path / "models--some--model" / "snapshots" / ("c" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "models--some--model" / "refs").mkdir()
    (tmp_path / "models--some--model" / "refs" / "main").write_text("c" * 40)
    check_model("some/model")


def test_local_folders_are_looked_through(tiny_bert: Path, tmp_path: Path) -> None:
    check_model(BUNDLED_STUDENT)
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "model"))
    check_model(str(folder))
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"model\.safetensors is empty"):
        check_model(str(folder))
    with pytest.raises(ModelError, match=r"has no config\.json"):
        check_model(str(tmp_path / "nowhere"))
