"""Sessions: connect to a Ray cluster, or start a local one that ends with the process."""

import importlib
import logging
import os
import secrets
import socket
import sys
import tempfile
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cluster import interrupts
from cluster.errors import UserError, one_line
from cluster.resources import Need, fault, nodes_there, nodes_to_come

_CONNECT_TIMEOUT_S = 10.0
_TOKEN_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


class SessionError(UserError, RuntimeError):
    """There is no cluster, or it lacks what a job needs. The message is one line that says what to do."""


class Session:
    """A Ray cluster, connected to when it is first needed: a run whose stages are all done never starts Ray.

    Args:
        address: the cluster; None takes RAY_ADDRESS, which a submitted job has, or else starts a local Ray.
        num_cpus: CPUs of a local Ray; None takes the machine's, and at least two.
    """

    def __init__(self, address: str | None = None, num_cpus: int | None = None) -> None:
        self._address = address or os.environ.get("RAY_ADDRESS")
        self._num_cpus = num_cpus
        self._connected = False
        self._started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def local(self) -> bool:
        """True if the session starts its own Ray."""
        return self._address in {None, "local"}

    @property
    def place(self) -> str:
        """The cluster in words."""
        return "a local Ray" if self.local else f"the cluster at {self._address}"

    def connect(self) -> None:
        """Connect to the cluster or start a local one, once. Raise `SessionError` if it cannot be reached or asks for a token."""
        if self._connected:
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault(
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
        )  # Ray's own future default; says so on every start otherwise
        if self.local:
            # Workers import our packages also where they are not installed and the job was started elsewhere.
            root = str(Path(__file__).resolve().parents[1])
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        else:
            self._check_address()
        _decide_token(local=self.local)
        import ray

        if not ray.is_initialized():
            if not self.local:
                self._check_cluster()
            self._started = self.local  # from the first of its processes
            try:
                self._start(ray)
            except Exception as error:  # Ray raises bare ones, too: when a node starts too slowly, for example
                raise SessionError(self._explain(error)) from error
            finally:
                interrupts.restore()  # Ray has handlers of its own
        _configure()
        self._connected = True

    def _check_address(self) -> None:
        """Raise `SessionError` if nothing listens at the address: Ray would try it for minutes."""
        if (self._address or "").startswith(("http://", "https://")):
            raise SessionError(
                f"{self._address} is a dashboard, to which `ray job submit` sends jobs: give cluster.address and RAY_ADDRESS "
                "the cluster's own address, such as HOST:6379 or auto, or submit this job"
            )
        host, _, port = (self._address or "").removeprefix("ray://").strip("[]").rpartition(":")
        if not host or not port.isdigit():  # `auto`, or an address that Ray itself rejects
            return
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT_S).close()
        except (OSError, OverflowError) as error:
            raise SessionError(
                f"no Ray cluster answers at {self._address}: {error}; check cluster.address and RAY_ADDRESS"
            ) from error

    def _check_cluster(self) -> None:
        """Raise `SessionError` if the address is no cluster's or the token is not its own: Ray would try for 20 s."""
        if ":" not in (self._address or "") or "://" in (self._address or ""):
            return
        import grpc
        from ray._private.grpc_utils import init_grpc_channel

        channel: Any = init_grpc_channel(str(self._address), [("grpc.enable_http_proxy", 0)])
        with channel:
            try:
                channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")(b"", timeout=_CONNECT_TIMEOUT_S)
            except grpc.RpcError as raised:
                error: Any = raised
                if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                    raise SessionError(self._wants_token()) from None
                what = f"{error.code().name.lower()}: {' '.join(str(error.details()).split())[:200]}"
                raise SessionError(
                    f"no Ray cluster answers at {self._address}, though something listens there ({what}); "
                    "check cluster.address and RAY_ADDRESS"
                ) from None

    def _wants_token(self) -> str:
        wants = f"the cluster at {self._address} asks for a token"
        if os.environ.get("RAY_AUTH_MODE") != "token":
            return f"{wants}: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        known = next((name for name in _TOKEN_VARIABLES[1:] if os.environ.get(name)), "~/.ray/auth_token")
        return f"{wants}, and refuses the one of {known}: set RAY_AUTH_TOKEN to the cluster's own"

    def _start(self, ray: Any) -> None:
        if self.local:
            ray.init(
                address="local",  # or Ray would join a cluster that someone started on this machine
                num_cpus=self._num_cpus or max(2, os.cpu_count() or 1),
                include_dashboard=False,
                logging_level=logging.ERROR,
                log_to_driver=False,
                _temp_dir=_short_temp_dir(),
            )
        else:
            ray.init(address=self._address, logging_level=logging.WARNING)

    def _explain(self, error: BaseException) -> str:
        text = one_line(error, 300)
        if "token" in text.lower() or "authentication" in text.lower():
            return (
                f"the cluster at {self._address} asks for a token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN ({text})"
            )
        where = "a local Ray cannot start" if self.local else f"no Ray cluster answers at {self._address}"
        return f"{where}: {text}"

    def check(self, needs: list[Need], *, autoscales: bool = False) -> None:
        """Check that the cluster has what the stages need; raise `SessionError` if not. Ray itself would wait without end.

        With `autoscales`, the nodes that may be added count too. If they are not known, that is printed; a pool that waits for them fails
        after its `start_timeout_s`.
        """
        if not needs:
            return
        self.connect()
        import ray

        nodes = nodes_there(ray)
        faults = [said for need in needs if (said := fault(need, nodes))]
        if not faults:
            return
        if not autoscales or self.local:
            raise SessionError(f"{faults[0]}; lower it, or add nodes (cluster.autoscales where they come on demand)")
        coming = nodes_to_come(ray)
        if coming is None:
            print(
                f"{faults[0]}; the nodes that the autoscaler may add are not known, so the job waits for them",
                flush=True,
            )
            return
        if lacking := next((said for need in needs if (said := fault(need, nodes + coming))), None):
            raise SessionError(f"{lacking}; lower it, or let the autoscaler add other nodes or more of them")

    def close(self) -> None:
        """Leave the cluster. A local Ray that this session started ends; one that the process had before stays."""
        if self._started:
            import ray

            with interrupts.shielded():
                ray.shutdown()
        self._connected = self._started = False


def _decide_token(*, local: bool) -> None:
    """Set whether this process has a token, and for a local Ray which: Ray reads that when it is imported, its processes later."""
    known = {name: os.environ.get(name) for name in _TOKEN_VARIABLES}
    if local:
        # The token keeps other users of the machine out.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        if os.environ["RAY_AUTH_MODE"] == "token" and not os.environ.get("RAY_AUTH_TOKEN_PATH"):
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    elif any(os.environ.get(name) for name in _TOKEN_VARIABLES[1:]):
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    changed = known != {name: os.environ.get(name) for name in _TOKEN_VARIABLES}
    if changed and "ray" in sys.modules:
        raylet: Any = importlib.import_module("ray._raylet")
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()


def _short_temp_dir() -> str:
    # Unix sockets below it may have 107 characters in all, which a deep TMPDIR exceeds.
    default = Path(tempfile.gettempdir())
    return str(default / "ray") if len(str(default)) < 40 else "/tmp/ray"  # noqa: S108


def _configure() -> None:
    """Turn off Ray's progress bars and information on the terminal; warnings stay, and errors are raised as they are."""
    from ray.data import DataContext

    context = DataContext.get_current()  # configures the loggers below when it is first made
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)  # errors are raised, and the session's log files hold the rest
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*ray_remote_args.*", category=DeprecationWarning)
    context.raise_original_map_exception = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = 600.0
