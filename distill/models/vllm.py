"""The one module that starts vLLM. Nothing here imports it before an engine is asked for: it lives in an environment of its own.

vLLM (https://github.com/vllm-project/vllm) fixes the exact torch and a range of transformers, so its actors run in another virtual
environment or image than the rest of a job (`infra/vllm-env.sh`, `pool.runtime_env`). It gets token ids that we composed, never text: its
own score templates lose characters at the end of a prompt, and its own truncation cuts there.
"""

import contextlib
import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cluster.errors import how_to_install, one_line
from distill.models.files import check_folder
from distill.models.locate import ModelError, locate

OLDEST = (0, 32)
"""The first release whose pooling parameters and `logprob_token_ids` are those used here, and the one that was measured."""
_GIB = 1 << 30
_ENVIRONMENT = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
"""No report to the vLLM project, and no log line for each step of starting; whoever wants either sets the variable."""
_CPU_ENVIRONMENT = {
    # One process: an engine that is a child of its own imports everything again, twice (30 s instead of 2 s).
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # By default every engine of a node binds its threads to the same cores.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
_CPU_OPTIONS: dict[str, Any] = {
    "enforce_eager": True,  # compiling takes longer than the small models that a CPU is used for
    "kv_cache_memory_bytes": _GIB,  # by default nearly the whole memory of the node
}


def import_vllm(setting: str) -> Any:
    """Import the `vllm` module; a `ModelError` says how to get it.

    Args:
        setting: where the settings of the actors' environment are, for the message (`score.pool`).
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # read when vllm is first imported
    try:
        vllm = importlib.import_module("vllm")
    except ImportError as error:
        raise ModelError(
            f"vllm cannot be imported by {sys.executable} ({error}): make an environment for it with infra/vllm-env.sh and name it in "
            f"{setting}.runtime_env: {{py_executable: FOLDER/bin/python}}, or {how_to_install('vllm')}"
        ) from error
    check_version(vllm.__version__)
    return vllm


def check_version(version: str) -> None:
    """Raise a `ModelError` for a vLLM that is too old; a version that says no number, as builds from source do, is taken as it is."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST and version != "0.0.0":
        oldest = ".".join(str(number) for number in OLDEST)
        raise ModelError(
            f"vllm {version} is too old, {oldest} or later is needed: VLLM_VERSION=... infra/vllm-env.sh FOLDER"
        )


def start_engine(
    model: str,
    revision: str | None,
    own: Mapping[str, Any],
    options: Mapping[str, Any],
    setting: str,
) -> Any:
    """Start a `vllm.LLM` of `model`.

    On a machine without accelerators a few defaults change (one process, no compilation, 1 GiB of key-value cache, threads not bound to
    cores). An engine in one process must be deleted before the next one starts: the first would take the other's communication groups with
    it. On GPUs vLLM's own defaults hold; `gpu_memory_utilization` is a share of the whole GPU, so actors that share one must lower it.

    Args:
        model: Hugging Face id or local folder.
        revision: commit on the hub, of weights and tokenizer.
        own: arguments of `vllm.LLM` that the caller decides.
        options: the user's; they win over `own` where both name one, except that `hf_overrides` are joined.
        setting: where the actors' settings are, for messages.

    Raises:
        ModelError: vllm is missing or too old, or refuses the model or an argument; one line.
    """
    folder = locate(model)
    if Path(folder).is_dir():
        check_folder(folder, pickled=True)
    vllm = import_vllm(setting)
    current_platform = importlib.import_module("vllm.platforms").current_platform

    defaults: dict[str, Any] = {"seed": 0}
    if current_platform.is_cpu():
        for name, value in _CPU_ENVIRONMENT.items():
            os.environ.setdefault(name, value)  # read when the engine starts
        defaults |= _CPU_OPTIONS
        if "VLLM_CPU_KVCACHE_SPACE" in os.environ:  # vLLM's own variable for the same thing
            del defaults["kv_cache_memory_bytes"]
    overrides = {**own.get("hf_overrides", {}), **options.get("hf_overrides", {})}
    arguments = {**defaults, **own, **options, **({"hf_overrides": overrides} if overrides else {})}
    try:
        with _hidden("llvmlite.binding.ffi" if current_platform.is_cpu() else ""):
            return vllm.LLM(model=folder, revision=revision, tokenizer_revision=revision, **arguments)
    except (ValueError, TypeError, AssertionError, RuntimeError, OSError, NotImplementedError) as error:
        raise ModelError(f"vllm {vllm.__version__} cannot start '{model}': {_one_line(error)}") from error


@contextlib.contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Keep a module out of `sys.modules` for a while.

    On CPUs vLLM 0.32 looks through every module for kernels to replace, and stumbles over an object of llvmlite that answers to any name.
    Numba loads llvmlite, and BM25 loads numba.
    """
    module = sys.modules.pop(name, None)
    try:
        yield
    finally:
        if module is not None:
            sys.modules[name] = module


def _one_line(error: BaseException) -> str:
    text = one_line(error) or type(error).__name__
    return text[:400]
