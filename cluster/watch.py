"""The watch on a pool, which ends a stage that would wait without end."""

import time
from typing import Any

_PRINT_AFTER_S = 60.0


class Watch:
    """A counter of a pool's actors at each step of Ray Data's loop, which raises `TimeoutError` if no actor starts or no shard is finished.

    An execution callback of Ray Data: what it raises ends the execution and comes out of the iterator over its results.

    Args:
        stage: the stage's name.
        start_s: seconds that it may be without any actor.
        stall_s: seconds that it may be without a finished shard though it has actors; if None, there is no limit.
    """

    def __init__(self, stage: str, start_s: float, stall_s: float | None) -> None:
        self.alive = 0
        self._stage = stage
        self._start_s = start_s
        self._stall_s = stall_s
        self._staffed = self._advanced = time.monotonic()
        self._looked = 0.0
        self._told = False

    def progress(self) -> None:
        """Note that a shard is done."""
        self._advanced = time.monotonic()

    def before_execution_starts(self, executor: Any) -> None:  # noqa: ARG002
        """Start the clocks."""
        self._staffed = self._advanced = time.monotonic()

    def on_execution_step(self, executor: Any) -> None:
        """Count the actors, once a second."""
        now = time.monotonic()
        if now - self._looked < 1.0:
            return
        self._looked = now
        operators = executor._topology  # noqa: SLF001 - Ray Data has no other way to ask
        pools = [pool for operator in operators for pool in operator.get_autoscaling_actor_pools()]
        self.alive = sum(pool.num_alive_actors() for pool in pools)
        if self.alive:
            self._staffed = now
        else:
            self._advanced = now
        if not self._told and now - self._staffed > _PRINT_AFTER_S:
            self._told = True
            print(
                f"  {self._stage}: waiting for the first actor: a node, its environment or the model (`ray status` shows nodes)",
                flush=True,
            )
        if now - self._staffed > self._start_s:
            raise TimeoutError(
                f"no actor could start in {self._start_s:g} s (pool.start_timeout_s): the cluster has no room for one, or its nodes, "
                "environments or models take longer; `ray status` shows what it waits for"
            )
        if self._stall_s is not None and now - self._advanced > self._stall_s:
            raise TimeoutError(
                f"no shard was finished in {self._stall_s:g} s (pool.stall_timeout_s) though {self.alive} actors run: raise it, or make "
                "shards smaller; the same command continues from what is done"
            )

    def after_execution_succeeds(self, executor: Any) -> None:
        """Do nothing."""

    def after_execution_fails(self, executor: Any, error: Exception) -> None:
        """Do nothing."""
