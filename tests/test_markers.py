"""The marker `ray` is on every test that starts Ray, so that the others can be run alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.session import Session, SessionError


def test_a_test_without_the_marker_starts_no_ray() -> None:
    with pytest.raises(SessionError, match="a local Ray cannot start"):
        Session("local").connect()


def test_nor_does_a_process_that_it_starts() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import ray; ray.init()"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert "json.decoder.JSONDecodeError" in done.stderr


@pytest.mark.ray
def test_with_the_marker_nothing_is_refused() -> None:
    assert "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ


def test_the_marker_comes_with_the_fixtures(request: pytest.FixtureRequest) -> None:
    """Whichever tests are chosen with this one: those of the fixtures have it, this one has it not."""
    assert request.node.get_closest_marker("ray") is None
    for item in request.session.items:
        if {"ray_session", "ray_processes"} & set(getattr(item, "fixturenames", ())):
            assert item.get_closest_marker("ray"), item.nodeid


def test_workers_are_forked_with_the_libraries(ray_session: None) -> None:
    """A new worker of the shared Ray has torch and transformers imported before it imports anything itself."""
    import ray

    @ray.remote(runtime_env={"env_vars": {"POLYRAY_TEST": "a worker that no other test has used"}})
    def loaded() -> list[str]:
        return [name for name in ("torch", "transformers.models.bert.modeling_bert", "distill") if name in sys.modules]

    assert ray.get(loaded.remote()) == ["torch", "transformers.models.bert.modeling_bert"]
    assert Path(__file__).with_name("warm_workers.py").is_file()
