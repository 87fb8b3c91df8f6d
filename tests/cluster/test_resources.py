"""What a cluster can give, counted by hand."""

from pathlib import Path
from typing import Any

import pytest

from cluster.resources import Need, Node, _types_in, fault

A100 = Node(
    {"CPU": 16.0, "GPU": 8.0, "memory": 400e9, "accelerator_type:A100": 1.0},
    {"zone": "a", "ray.io/accelerator-type": "A100"},
)
L4 = Node(
    {"CPU": 8.0, "GPU": 1.0, "memory": 30e9, "accelerator_type:L4": 1.0}, {"zone": "b", "ray.io/accelerator-type": "L4"}
)
SPOT = Node({"CPU": 4.0, "GPU": 2.0}, {"zone": "c"}, 3.0, "spot")


def need(count: int = 1, cpus: float = 1.0, gpus: float = 0.0, **facts: Any) -> Need:
    return Need("score", count, cpus, gpus, "score.pool", **facts)


@pytest.mark.parametrize(
    "given",
    [
        need(24),
        need(9, gpus=1),
        need(2, gpus=4),
        need(18, 0.1, gpus=0.5),
        need(13, memory_gb=30),
        need(8, gpus=1, accelerator_type="A100"),
        need(labels={"zone": "b"}),
        need(labels={"zone": "in(b,x)"}),
        need(9, gpus=1, labels={"zone": "!c"}),
        need(labels={"zone": "x"}, fallback_labels=({"zone": "y"}, {"zone": "b"})),
    ],
)
def test_what_fits_is_let_through(given: Need) -> None:
    assert fault(given, [A100, L4]) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (need(25), "score asks for 25 x 1 CPUs at once (score.pool), the 2 nodes have 24 CPUs"),
        (need(3, gpus=4), "score asks for 3 x 4 GPUs at once (score.pool), the 2 nodes have 9 GPUs"),
        (
            need(gpus=9),
            "score asks for 1 x 9 GPUs at once (score.pool), the 2 nodes have 9 GPUs, not more than 8 GPUs on one of them",
        ),
        # 0.4 fits twice into each of nine GPUs, not 22 times into nine
        (
            need(19, 0.1, gpus=0.4),
            "score asks for 19 x 0.4 GPUs at once (score.pool), the 2 nodes have 9 GPUs, not more than 8 GPUs on one of them",
        ),
        (
            need(memory_gb=500),
            "score asks for 1 x 500 GB of memory at once (score.pool), the 2 nodes have 430 GB of memory",
        ),
        (need(resources={"slot": 2}), "score asks for 1 x 2 slot at once (score.pool), the 2 nodes have 0 slot"),
        (
            need(accelerator_type="H100"),
            "score asks for accelerator H100 (score.pool.accelerator_type), the 2 nodes have A100, L4",
        ),
        (
            need(labels={"zone": "x"}, fallback_labels=({"zone": "y"},)),
            "score asks for nodes with labels {'zone': 'x'} or {'zone': 'y'} (score.pool.labels), the 2 nodes have zone: a, zone: b",
        ),
        (
            need(3, 8, memory_gb=16),
            None,
        ),
        (
            need(2, gpus=1, accelerator_type="L4"),
            (
                "score asks for 2 x (1 CPUs, 1 GPUs) at once (score.pool), the 2 nodes have room for 1 with the labels and accelerator "
                "asked for"
            ),
        ),
        (
            need(3, 8, gpus=1, memory_gb=31),
            "score asks for 3 x (8 CPUs, 1 GPUs, 31 GB of memory) at once (score.pool), the 2 nodes have room for 2",
        ),
    ],
)
def test_what_does_not_fit_is_said(given: Need, said: str | None) -> None:
    assert fault(given, [A100, L4]) == said


def test_nodes_that_may_come_count() -> None:
    assert fault(need(6, gpus=1), [SPOT]) is None
    assert fault(need(7, gpus=1), [SPOT]) == (
        "score asks for 7 x 1 GPUs at once (score.pool), the 0 nodes and those that the autoscaler may add (3 x spot) have 6 GPUs"
    )
    assert fault(need(1, gpus=4), [L4, SPOT]) == (
        "score asks for 1 x 4 GPUs at once (score.pool), the 1 nodes and those that the autoscaler may add (3 x spot) have 7 GPUs, "
        "not more than 2 GPUs on one of them"
    )


def test_what_is_not_known_of_nodes_that_may_come_is_not_refused() -> None:
    """A cluster file need not say memory or accelerator, and Ray makes labels of its own."""
    assert (
        fault(need(gpus=1, memory_gb=900, accelerator_type="H100", labels={"ray.io/accelerator-type": "H100"}), [SPOT])
        is None
    )
    assert fault(need(labels={"zone": "x"}), [SPOT]) is not None


def test_a_cluster_file_says_what_may_come(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(
        "max_workers: 4\nhead_node_type: head\navailable_node_types:\n"
        "  head: {resources: {CPU: 8}, node_config: {}}\n"
        "  big: {resources: {CPU: 16, GPU: 4}, labels: {zone: a}, max_workers: 9}\n"
        "  small: {resources: {CPU: 2}, max_workers: 3}\n"
    )
    assert _types_in(file) == [
        Node({"CPU": 16, "GPU": 4}, {"zone": "a"}, 4, "big"),
        Node({"CPU": 2}, {}, 3, "small"),
    ]
