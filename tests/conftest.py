"""Fixtures that the whole suite shares: one Ray, one S3 server, tiny models made on the spot."""

import logging
import os
import socket
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

# Before anything imports ray or transformers.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

from tests.warm_workers import warm_workers

if TYPE_CHECKING:
    from transformers import BertConfig

torch.set_num_threads(1)

_LONGEST_FIRST = ("jobs", "docs", "cluster", "distill", "serve")
"""Folders of tests that start Ray, those first whose files start whole jobs and clusters."""

_WORDS = """
    bee honey dance hive flower sun angle food comb nectar river bridge stone arch road city map light wave sound biene honig tanz
    blume sonne winkel fluss stein brücke stadt licht welle . , ? ! ' -
"""
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
TINY_WORDS = [*_WORDS.split(), *_LETTERS, *(f"##{letter}" for letter in _LETTERS)]


_STARTS_RAY = {"ray_session", "ray_processes"}
"""Fixtures of which every test starts Ray, directly or through other fixtures."""

_REFUSAL = "a test that starts Ray needs the marker `ray`, or the fixture `ray_session` or `ray_processes`"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start Ray, and begin with their files.

    They are the long ones, and a long file that comes last keeps one process of pytest-xdist busy while the others wait.
    """
    for item in items:
        if _STARTS_RAY & set(getattr(item, "fixturenames", ())):
            item.add_marker("ray")
    long = {item.path for item in items if item.get_closest_marker("ray")}

    def rank(item: pytest.Item) -> int:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        return _LONGEST_FIRST.index(folder) if item.path in long and folder in _LONGEST_FIRST else len(_LONGEST_FIRST)

    items.sort(key=rank)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """Keep Ray from the fixtures of tests without the marker `ray`."""
    with _without_ray(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Keep Ray from tests without the marker `ray`."""
    with _without_ray(item):
        return (yield)


@contextmanager
def _without_ray(item: pytest.Item) -> Iterator[None]:
    """Refuse Ray to a test without the marker: a start here or in a process that it starts, and the Ray that others started."""
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("ray") is None:
            patch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", _REFUSAL)  # no JSON, which `ray.init` refuses
            if "ray" in sys.modules:
                patch.setattr(sys.modules["ray"], "is_initialized", lambda: False)
        yield


@pytest.fixture(scope="session")
def ray_processes() -> None:
    """Nothing but the marker `ray`, for fixtures that start Ray in processes of their own."""


@pytest.fixture(scope="session")
def ray_session(s3_endpoint: str) -> Iterator[None]:
    """A local Ray for the whole suite; logical CPUs are more than the machine's, so that pools of four fit.

    The S3 server is first: workers inherit its variables.
    """
    import ray

    with warm_workers() as command, tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        ray.init(
            num_cpus=8,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"py_executable": command},
            _temp_dir=folder,
        )
        try:
            yield
        finally:
            ray.shutdown()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A real S3-compatible server over HTTP, with the AWS_* variables that lead every library to it."""
    from moto.server import ThreadedMotoServer

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    names = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield names["AWS_ENDPOINT_URL"]
    finally:
        server.stop()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@pytest.fixture(scope="session")
def s3_bucket(s3_endpoint: str) -> str:
    """A bucket on the S3 server, as a URI."""
    import boto3

    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket="polyray-test")
    return "s3://polyray-test"


def save_tiny_tokenizer(folder: Path) -> None:
    """A BERT tokenizer of a hundred pieces, with the markers that BERT vocabularies have."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    specials = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = {piece: i for i, piece in enumerate(dict.fromkeys([*specials, *TINY_WORDS]))}
    tokenizer = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 4), ("[SEP]", 5)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)  # fmt: skip


def tiny_config() -> "BertConfig":
    """Two layers of 32 for the vocabulary of `save_tiny_tokenizer`."""
    from transformers import BertConfig

    return BertConfig(
        vocab_size=len(dict.fromkeys(TINY_WORDS)) + 7,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        pad_token_id=0,
    )


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers, saved as Hugging Face models are."""
    from transformers import BertModel

    folder = tmp_path_factory.mktemp("tiny_bert")
    save_tiny_tokenizer(folder)
    torch.manual_seed(0)
    config = tiny_config()
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT that classifies pairs, one label."""
    from transformers import BertForSequenceClassification

    folder = tmp_path_factory.mktemp("tiny_cross_encoder")
    save_tiny_tokenizer(folder)
    torch.manual_seed(1)
    config = tiny_config()
    config.num_labels = 1
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_student(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A late-interaction checkpoint on the tiny BERT, 16 numbers a vector."""
    from distill.encoders.checkpoints import save_encoder
    from distill.encoders.late_interaction import EncoderSettings, LateInteractionEncoder

    folder = tmp_path_factory.mktemp("tiny_student")
    torch.manual_seed(2)
    settings = EncoderSettings(dim=16, query_tokens=8, passage_tokens=32)
    save_encoder(LateInteractionEncoder.from_backbone(str(tiny_bert), settings), folder)
    return folder
