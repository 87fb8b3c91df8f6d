"""A Ray cluster whose autoscaler adds and removes nodes, all of them processes of this machine; for tests.

`ray.cluster_utils.AutoscalingCluster` needs a file that Ray's wheel lacks and stops every Ray of the machine; this ends only what it
started. It runs as a process of its own (`python -m tests.fake_cluster`), so that a test session's Ray does not notice.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_STARTS = 3


@dataclass(frozen=True)
class FakeCluster:
    """A running cluster.

    Attributes:
        address: what drivers connect to.
        variables: the environment of drivers.
    """

    address: str
    variables: Mapping[str, str]

    def driver(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a Python process that finds the cluster in RAY_ADDRESS and this project's modules."""
        return subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=dict(self.variables), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, *arguments: str, timeout: float = 240) -> str:
        """Run a driver to its end; its output. An error is one of the test's."""
        process = self.driver(*arguments)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(process.communicate()[0][-4000:]) from None
        assert process.returncode == 0, output[-4000:]
        return output


@contextmanager
def fake_cluster(head: Mapping[str, float], workers: Mapping[str, Mapping[str, Any]]) -> Iterator[FakeCluster]:
    """A cluster with a head node and, by name, types of nodes that come when they are asked for and leave when they are idle.

    Args:
        head: resources of the head node.
        workers: node types as in a cluster file: `resources`, `max_workers`, and `labels` if they have any.
    """
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    variables |= {
        "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT), "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_health_check_period_ms": "1000",
        "RAY_worker_register_timeout_seconds": "240",  # the machine may be busy
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="fake", dir="/tmp", ignore_cleanup_errors=True) as folder:
        process, address = _start(json.dumps({"head": head, "workers": workers, "folder": folder}), variables)
        try:
            yield FakeCluster(address, variables | {"RAY_ADDRESS": address})
        finally:
            _end(process, folder)


def _start(facts: str, variables: Mapping[str, str]) -> tuple[subprocess.Popen[str], str]:
    """The cluster's process and address. Ray gives a node half a minute to start, which on a busy machine is not always enough."""
    for _ in range(_STARTS):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fake_cluster", facts], cwd=ROOT, env=variables, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        address = _address(process)
        if address:
            return process, address
        _end(process, json.loads(facts)["folder"])
    raise RuntimeError(f"the cluster did not start in {_STARTS} attempts")


def _address(process: subprocess.Popen[str]) -> str | None:
    assert process.stdout is not None
    return next((line.split()[1] for line in process.stdout if line.startswith("address ")), None)


def _end(process: subprocess.Popen[str], folder: str) -> None:
    """Ask the cluster to end, then kill what is left of it: processes that name its folder."""
    with suppress(subprocess.TimeoutExpired):
        process.communicate("", timeout=60)
    for _ in range(5):
        left = _processes(folder)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not left:
            break
        time.sleep(0.2)
    process.kill()
    process.communicate()


def _processes(folder: str) -> list[int]:
    """Processes whose command line names the cluster's folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if folder.encode() in (entry / "cmdline").read_bytes() and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


_EMPTY = ("docker", "file_mounts", "auth")
_LISTS = (
    "initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands", "head_start_ray_commands",
    "worker_start_ray_commands", "cluster_synced_files", "rsync_exclude", "rsync_filter",
)  # fmt: skip
_HEAD = "ray.head.default"


def _serve(head: Mapping[str, float], workers: Mapping[str, Mapping[str, Any]], folder: str) -> None:
    """Start the cluster, print its address, and end it when the input ends."""
    from ray._private import services
    from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID
    from ray.cluster_utils import Cluster

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    provider = {
        "type": "fake_multinode", "use_node_id_as_ip": True, "disable_node_updaters": True, "disable_launch_config_check": True,
        "gcs_address": f"{services.get_node_ip_address()}:{port}", "head_node_id": FAKE_HEAD_NODE_ID, "launch_multiple": True,
    }  # fmt: skip
    types = {name: {"node_config": {}, "min_workers": 0, **facts} for name, facts in workers.items()}
    config = {
        "cluster_name": "fake", "head_node_type": _HEAD, "upscaling_speed": 10.0, "idle_timeout_minutes": 0.1,
        **{name: {} for name in _EMPTY}, **{name: [] for name in _LISTS}, "file_mounts_sync_continuously": False,
        "provider": provider, "max_workers": sum(facts["max_workers"] for facts in types.values()),
        "available_node_types": {_HEAD: {"resources": dict(head), "node_config": {}, "max_workers": 0}, **types},
    }  # fmt: skip
    file = Path(folder) / "autoscaling.json"
    file.write_text(json.dumps(config))
    names = dict.fromkeys(("RAY_OVERRIDE_NODE_ID_FOR_TESTING", "RAY_CLOUD_INSTANCE_ID"), FAKE_HEAD_NODE_ID)
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": head.get("CPU", 0), "gcs_server_port": port, "autoscaling_config": str(file), "include_dashboard": False,
            "resources": {name: value for name, value in head.items() if name not in {"CPU", "GPU"}},
            "env_vars": {**names, "RAY_NODE_TYPE_NAME": _HEAD}, "temp_dir": folder, "dashboard_agent_listen_port": 0,
            "object_store_memory": 200_000_000,
        },
    )  # fmt: skip
    print(f"address {cluster.address}", flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    _serve(**json.loads(sys.argv[1]))
