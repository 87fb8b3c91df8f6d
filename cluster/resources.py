"""Resources: check that a cluster has what a stage needs, now or with the nodes that its autoscaler may add."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from cluster.settings import PoolSettings

_EPSILON = 1e-9
_ACCELERATOR = "accelerator_type:"


@dataclass(frozen=True)
class Need:
    """The resources that a stage asks of the cluster at once.

    Attributes:
        stage: for the message.
        count: actors or workers.
        cpus: CPUs of each.
        gpus: GPUs of each, on one node.
        setting: the setting that asks for them, for the message.
        memory_gb: memory of each, in 10^9 bytes.
        accelerator_type: the accelerator that each needs.
        resources: custom resources of each.
        labels: labels that a node must have.
        fallback_labels: other sets of labels that will do.
    """

    stage: str
    count: int
    cpus: float
    gpus: float
    setting: str
    memory_gb: float | None = None
    accelerator_type: str | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    fallback_labels: Sequence[Mapping[str, str]] = ()

    @classmethod
    def of_pool(cls, stage: str, pool: PoolSettings, setting: str) -> Self:
        """Return what a pool needs to start: its first actors."""
        return cls(
            stage, pool.min_actors, pool.num_cpus, pool.num_gpus, setting, pool.memory_gb, pool.accelerator_type,
            pool.resources, pool.labels, pool.fallback_labels,
        )  # fmt: skip

    def amounts(self) -> dict[str, float]:
        """Return the resources of each actor, under Ray's names."""
        amounts = {"CPU": self.cpus, "GPU": self.gpus, "memory": (self.memory_gb or 0.0) * 1e9, **self.resources}
        return {name: amount for name, amount in amounts.items() if amount > 0}


@dataclass(frozen=True)
class Node:
    """A node, or a type of nodes that may come.

    Attributes:
        resources: its resources, under Ray's names; of a type of nodes, those of one.
        labels: its labels.
        count: how many there may be.
        type: the type's name; empty for a node that is there, of which everything is known.
    """

    resources: Mapping[str, float]
    labels: Mapping[str, str]
    count: float = 1.0
    type: str = ""

    def amount(self, name: str) -> float:
        """Return how much it has of a resource; infinite for the memory of a type of nodes that does not state it."""
        return self.resources.get(name, math.inf if self.type and name == "memory" else 0.0)

    def fits(self, amounts: Mapping[str, float]) -> float:
        """Return how many actors have room on one such node."""
        return min((self._fits(name, each) for name, each in amounts.items()), default=math.inf)

    def _fits(self, name: str, each: float) -> float:
        there = self.amount(name)
        if name == "GPU" and each < 1:  # a fraction shares one GPU, it is never put together from two
            return math.floor(there) * math.floor(1 / each + _EPSILON)
        return there if math.isinf(there) else math.floor(there / each + _EPSILON)

    def has_accelerator(self, name: str | None) -> bool:
        """Return whether it has the accelerator, as far as is known."""
        known = [resource for resource in self.resources if resource.startswith(_ACCELERATOR)]
        unknown = bool(self.type) and not known and self.amount("GPU") > 0
        return name is None or unknown or f"{_ACCELERATOR}{name}" in known

    def has_labels(self, need: Need) -> bool:
        """Return whether it has one of the sets of labels, as far as is known."""
        return any(
            all(self._matches(key, selector) for key, selector in labels.items())
            for labels in (need.labels, *need.fallback_labels)
        )

    def _matches(self, key: str, selector: str) -> bool:
        if self.type and key not in self.labels and key.startswith("ray.io/"):
            return True  # Ray makes these labels when the node comes
        negated = selector.startswith("!")
        values = selector.lstrip("!").removeprefix("in(").removesuffix(")").split(",")
        return (self.labels.get(key) in {value.strip() for value in values}) is not negated


def fault(need: Need, nodes: Sequence[Node]) -> str | None:
    """Return in one line which part of a need the nodes can never give, None if they can give all."""
    amounts = need.amounts()
    for name, each in amounts.items():
        if _room(nodes, {name: each}) < need.count:
            return _too_little(need, nodes, name, each)
    fitting = [node for node in nodes if node.has_accelerator(need.accelerator_type)]
    if not fitting:
        known = sorted(
            {r.removeprefix(_ACCELERATOR) for node in nodes for r in node.resources if r.startswith(_ACCELERATOR)}
        )
        return (
            f"{need.stage} asks for accelerator {need.accelerator_type} ({need.setting}.accelerator_type), {_said(nodes)} "
            f"{'have ' + ', '.join(known) if known else 'have none that is known'}"
        )
    labelled = [node for node in fitting if node.has_labels(need)]
    if not labelled:
        wanted = " or ".join(str(dict(labels)) for labels in (need.labels, *need.fallback_labels))
        keys = {key for labels in (need.labels, *need.fallback_labels) for key in labels}
        there = sorted({f"{key}: {node.labels[key]}" for node in nodes for key in keys if key in node.labels})
        return (
            f"{need.stage} asks for nodes with labels {wanted} ({need.setting}.labels), {_said(nodes)} "
            f"have {', '.join(there) or 'no such labels'}"
        )
    room = _room(labelled, amounts)
    if room < need.count:
        each = ", ".join(_shown(name, amount) for name, amount in amounts.items())
        return (
            f"{need.stage} asks for {need.count} x ({each}) at once ({need.setting}), {_said(nodes)} have room for {room:g}"
            f"{' with the labels and accelerator asked for' if len(labelled) < len(nodes) else ''}"
        )
    return None


def _too_little(need: Need, nodes: Sequence[Node], name: str, each: float) -> str:
    total = sum(node.count * node.amount(name) for node in nodes if node.amount(name))
    most = max((node.amount(name) for node in nodes), default=0.0)
    apart = f", not more than {_shown(name, most)} on one of them" if total >= need.count * each else ""
    return (
        f"{need.stage} asks for {need.count} x {_shown(name, each)} at once ({need.setting}), {_said(nodes)} have "
        f"{_shown(name, total)}{apart}"
    )


def _shown(name: str, amount: float) -> str:
    if name == "memory":
        return f"{amount / 1e9:.4g} GB of memory"
    return f"{amount:g} {name}{'s' if name in {'CPU', 'GPU'} else ''}"


def _said(nodes: Sequence[Node]) -> str:
    types = [node for node in nodes if node.type]
    there = f"the {len(nodes) - len(types)} nodes"
    if not types:
        return there
    return f"{there} and those that the autoscaler may add ({', '.join(f'{node.count:g} x {node.type}' for node in types)})"


def _room(nodes: Sequence[Node], amounts: Mapping[str, float]) -> float:
    return sum(node.count * fits for node in nodes if (fits := node.fits(amounts)))


def nodes_there(ray: Any) -> list[Node]:
    """Return the cluster's nodes that are alive."""
    return [Node(node["Resources"], node.get("Labels") or {}) for node in ray.nodes() if node["Alive"]]


def nodes_to_come(ray: Any) -> list[Node] | None:
    """Return the types of nodes that the cluster's autoscaler may add, None if they are not known.

    They are known where the platform reports them to Ray's head, and on the head node itself, where submitted jobs run, if the autoscaler
    runs there with a cluster file. On Kubernetes it runs in a container of its own and they are not known.
    """
    reported = ray._private.state.state.get_cluster_config()  # noqa: SLF001 - Ray has no public way to ask
    if reported is not None and reported.node_group_configs:
        return [
            Node(dict(group.resources), {}, math.inf if group.max_count < 0 else group.max_count, group.name)
            for group in reported.node_group_configs
        ]
    file = _cluster_file(ray.get_runtime_context().gcs_address)
    return None if file is None else _types_in(file)


def _cluster_file(gcs_address: str) -> Path | None:
    """Return the file that the autoscaler of this cluster was started with, if it runs on this machine."""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # gone, or another user's
            continue
        options = dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
        if options.get("--gcs-address") == gcs_address and "--autoscaling-config" in options:
            return Path(options["--autoscaling-config"]).expanduser()
    return None


def _types_in(file: Path) -> list[Node] | None:
    import yaml

    try:
        config = yaml.safe_load(file.read_text())
    except OSError:  # another user's
        return None
    most = config.get("max_workers", math.inf)
    return [
        Node(facts.get("resources", {}), facts.get("labels") or {}, min(facts.get("max_workers", most), most), name)
        for name, facts in config.get("available_node_types", {}).items()
        if name != config.get("head_node_type")
    ]
