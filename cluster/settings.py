"""Settings of what runs on Ray: the base of every group, pools of actors, worker groups, the cluster."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Settings(BaseModel):
    """Base of every group of settings: immutable, and unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    execution: ClassVar[frozenset[str]] = frozenset()
    """Fields that say how the work is done and do not change the result."""

    def identity(self) -> dict[str, Any]:
        """Return the settings that decide the result, as JSON values: part of a stage's hash."""
        content = self.model_dump(mode="json")
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name in self.execution:
                del content[name]
            elif isinstance(value, Settings):
                content[name] = value.identity()
        return content


class PoolSettings(Settings):
    """The actors of a batch stage."""

    min_actors: int = Field(default=1, ge=1)
    """Actors that start at once."""
    max_actors: int = Field(default=1, ge=1)
    """Actors that the pool may grow to while shards wait."""
    num_cpus: float = Field(default=1.0, gt=0)
    """CPUs for each actor. It computes with as many threads, at least one."""
    num_gpus: float = Field(default=0.0, ge=0)
    """GPUs for each actor: a fraction shares one (`0.25`: four actors on each), a whole number reserves several on one node."""
    memory_gb: float | None = Field(default=None, gt=0)
    """Memory that Ray reserves for each actor, in 10^9 bytes. If None, Ray schedules actors without regard to memory."""
    accelerator_type: str | None = None
    """Ray's name of the accelerator that the actors need (`A100`, `L4`, `H100`, as `ray.util.accelerators` spells it). If None, any."""
    resources: dict[str, float] = Field(default_factory=dict)
    """Custom resources of the nodes that each actor takes, by name."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels that a node must have for an actor to go there (`{ray.io/accelerator-type: A100}`), in Ray's syntax: `in(A100,H100)`
    and `!L4` are understood."""
    fallback_labels: tuple[dict[str, str], ...] = ()
    """Other sets of labels, tried in order if no node can have `labels`: a pool of A100s, else of L4s. They need `labels`."""
    runtime_env: dict[str, Any] = Field(default_factory=dict)
    """Ray's runtime environment of the actors, for engines with an environment of their own: `{py_executable: /opt/vllm/bin/python}`,
    `{pip: [...]}`, `{image_uri: ...}`, `{env_vars: {...}}`."""
    max_restarts: int = Field(default=3, ge=0)
    """How often a shard whose actor crashed is tried again whole. After that its rows are tried apart, and those that crash an actor
    alone go to `rejected`; a stage whose rows cannot be computed apart fails."""
    start_timeout_s: float = Field(default=1800.0, gt=0)
    """Seconds to wait for the first actor, node start and model download included, before the stage fails."""
    stall_timeout_s: float | None = Field(default=7200.0, gt=0)
    """Seconds that actors may run without finishing a shard before the stage fails, many times a shard's duration. If None, no limit."""

    @model_validator(mode="after")
    def _ordered(self) -> "PoolSettings":
        if self.min_actors > self.max_actors:
            raise ValueError(f"min_actors {self.min_actors} is more than max_actors {self.max_actors}")
        if self.num_gpus > 1 and self.num_gpus != int(self.num_gpus):
            raise ValueError(f"num_gpus {self.num_gpus:g} is neither a fraction of one GPU nor a whole number")
        if self.fallback_labels and not self.labels:
            raise ValueError(
                "fallback_labels are for nodes without `labels`, and there are none; make the first of them `labels`"
            )
        return self


class GroupSettings(Settings):
    """The workers of a training: a Ray Train worker group."""

    workers: int = Field(default=1, ge=1)
    """DDP workers."""
    max_workers: int | None = Field(default=None, ge=1)
    """Most workers of an elastic training, which begins with what the cluster has, at least `workers`, and is resized, from its last
    checkpoint, as nodes come and go. The batch stays the same. If None, as many as `workers`."""
    cpus_per_worker: float = Field(default=1.0, gt=0)
    """CPUs for each worker; it computes with as many threads."""
    gpus_per_worker: float = Field(default=0.0, ge=0)
    """GPUs for each worker: 0 trains on the CPU over gloo, otherwise over NCCL."""
    max_failures: int = Field(default=3, ge=0)
    """Worker failures after which training gives up; each restarts from the last checkpoint."""

    @model_validator(mode="after")
    def _workers_ordered(self) -> "GroupSettings":
        if self.max_workers is not None and self.max_workers < self.workers:
            raise ValueError(f"max_workers {self.max_workers} is less than workers {self.workers}")
        return self

    @property
    def most_workers(self) -> int:
        """The largest worker group."""
        return self.max_workers or self.workers


class ClusterSettings(Settings):
    """The Ray cluster."""

    address: str | None = None
    """Cluster to connect to. If None, RAY_ADDRESS (set inside a submitted job), or else a local Ray that ends with the job."""
    num_cpus: int | None = Field(default=None, ge=1)
    """CPUs of a local Ray. If None, those of the machine, and at least two."""
    autoscales: bool = False
    """True if nodes are added on demand. If False, a job that asks for more than the cluster has fails at once."""
