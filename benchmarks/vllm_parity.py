"""vLLM against plain forward passes on random checkpoints: logits and ids of six architectures, prefix caching, HTTP, the score stage.

    infra/vllm-env.sh FOLDER cpu
    python benchmarks/vllm_parity.py FOLDER/bin/python [parity] [prefixes] [http] [stage]

Run by the Python of the jobs; vLLM runs in the other one, as it does on a cluster. Every checkpoint is made on the spot in float32 with
weights large enough that its logits spread over whole units. The plain forward pass is that of transformers, one prompt at a time, without
padding and without code of ours. About ten minutes.
"""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pyarrow.parquet as pq
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from distill.score.settings import HttpTeacher, ScoreSettings
from distill.score.teachers import load_teacher
from distill.sources import corpus

transformers.utils.logging.disable_progress_bar()
ROOT = Path(__file__).resolve().parents[1]
QUERIES, PASSAGES = 6, 12
PREFIX_MODEL = {"hidden_size": 128, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 4}
PREFIX_QUERIES, PREFIX_PASSAGES = 24, 8
VLLM = {"type": "vllm"}


def save_tokenizer(folder: Path, answers: list[str], specials: list[str], pair: str | None, **names: str) -> int:
    """Write a tokenizer of bytes, whole-word answers and special tokens; `pair` is its template for pairs. Return its size."""
    vocabulary = {symbol: i for i, symbol in enumerate([*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    merges = []
    for answer in answers:
        for end in range(1, len(answer)):
            merges.append((answer[:end], answer[end]))
            vocabulary.setdefault(answer[: end + 1], len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    # Answers are found only where they stand alone, so that texts remain bytes.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(specials)
    if pair:
        ids = [(name, tokenizer.token_to_id(name)) for name in specials]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=pair.split(" $B")[0], pair=pair, special_tokens=ids
        )
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **names).save_pretrained(
        folder
    )
    return tokenizer.get_vocab_size()


def save_causal(folder: Path, family: str, answers: list[str], seed: int, **sizes: int) -> None:
    specials = ["<pad>", "<bos>", "<eos>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    size = save_tokenizer(folder, answers, specials, None, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2, **sizes}
    config = getattr(transformers, f"{family}Config")(
        vocab_size=size, num_key_value_heads=shape["num_attention_heads"] // 2, max_position_embeddings=4096,
        head_dim=shape["hidden_size"] // shape["num_attention_heads"], initializer_range=0.2,
        tie_word_embeddings=family != "Qwen2", **shape,
    )  # fmt: skip
    torch.manual_seed(seed)
    getattr(transformers, f"{family}ForCausalLM")(config).save_pretrained(folder)


def save_cross_encoder(folder: Path, family: str, seed: int) -> None:
    if family == "XLMRoberta":
        names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "cls_token": "<s>", "sep_token": "</s>"}
        size = save_tokenizer(folder, [], ["<s>", "<pad>", "</s>"], "<s> $A </s> </s> $B </s>", **names)
        more = {"type_vocab_size": 1, "max_position_embeddings": 514, "pad_token_id": 1}
    else:
        segments = ":1" if family == "Bert" else ""
        pair = f"[CLS] $A [SEP] $B{segments} [SEP]{segments}"
        size = save_tokenizer(
            folder, [], ["[PAD]", "[CLS]", "[SEP]"], pair, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
        )
        more = {"max_position_embeddings": 512, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2}
        more |= {"bos_token_id": 1, "eos_token_id": 2} if family == "ModernBert" else {"type_vocab_size": 2}
    config = getattr(transformers, f"{family}Config")(
        vocab_size=size, hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=2, num_labels=1,
        initializer_range=0.2, **more,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = getattr(transformers, f"{family}ForSequenceClassification")(config)
    for parameter in model.parameters():  # heads are made small whatever the range says
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)


def cases(folder: Path) -> list[dict[str, Any]]:
    """Return the comparisons: a label, the teacher's settings, and how a plain pass gets its logit."""
    causal = [("Qwen3", "qwen3", ["no", "yes"]), ("Qwen2", "mxbai", ["0", "1"]), ("Gemma", "bge_gemma", ["Yes"])]
    found = []
    for seed, (family, prompt, answers) in enumerate(causal):
        model = folder / family
        save_causal(model, family, answers, seed)
        for task in ("classify", "generate") if len(answers) == 2 else ("classify",):
            teacher = {
                "type": "causal",
                "model": str(model),
                "prompt": prompt,
                "max_tokens": 800,
                "engine": {**VLLM, "task": task},
            }
            found.append({"label": f"{family}, prompt {prompt}, {task}", "teacher": teacher, "answers": answers})
    for seed, family in enumerate(("XLMRoberta", "Bert", "ModernBert")):
        model = folder / family
        save_cross_encoder(model, family, seed)
        teacher = {"type": "cross_encoder", "model": str(model), "max_tokens": 400, "engine": VLLM}
        found.append({"label": f"{family}, classify", "teacher": teacher, "answers": []})
    return found


def texts() -> tuple[list[str], list[str]]:
    rows = corpus.rows()
    return [row["queries"]["keyword"] for row in rows[:QUERIES]], [row["text"]["en"] for row in rows[:PASSAGES]]


def pairs() -> list[tuple[int, int]]:
    """Not grouped by query, so that results in the engine's order would be wrong."""
    return [(q, p) for p in range(PASSAGES) for q in range(QUERIES)]


def teacher_of(settings: dict[str, Any], engine: dict[str, Any] | None = None) -> Any:
    score = ScoreSettings.model_validate({"teacher": {**settings, **({"engine": engine} if engine else {})}})
    return load_teacher(score.teacher, "float32", 16_384, "cpu")  # pyright: ignore[reportArgumentType]


def plain_logits(case: dict[str, Any], composed: list[Any]) -> list[float]:
    """Logits of a forward pass of transformers for each prompt."""
    model = case["teacher"]["model"]
    if case["answers"]:
        tokenizer = transformers.AutoTokenizer.from_pretrained(model)
        answers = tokenizer.convert_tokens_to_ids(case["answers"])
        network = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        rows = [network(input_ids=torch.tensor([pair.ids])).logits[0, -1, answers].tolist() for pair in composed]
        return [row[-1] - (row[0] if len(row) == 2 else 0.0) for row in rows]
    network = transformers.AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32).eval()
    segments = getattr(network.config, "type_vocab_size", 0) > 1
    found = []
    for pair in composed:
        ids = torch.tensor([pair.ids])
        kinds = {"token_type_ids": (torch.arange(len(pair.ids)) >= pair.second).long()[None]} if segments else {}
        found.append(network(input_ids=ids, attention_mask=torch.ones_like(ids), **kinds).logits[0, 0].item())
    return found


def work(file: Path) -> None:
    """Run in the other Python: score every case with vLLM, or the shared prefixes with and without the cache."""
    plan = json.loads(file.read_text())
    queries, passages = texts()
    for case in plan.get("cases", []):
        scorer = teacher_of(case["teacher"])
        case["ids"] = [pair.ids for pair in scorer.composer.compose(queries, passages, pairs())]
        case["scores"] = scorer.score(queries, passages, pairs()).scores.tolist()
        plan["vllm"] = scorer.provenance.engine_version
        del scorer
    for row in plan.get("prefix", []):
        row.update(prefix_case(plan["model"], row["cached"], row["grouped"]))
    plan["versions"] = f"torch {torch.__version__}, transformers {transformers.__version__}"
    file.write_text(json.dumps(plan))


def prefix_case(model: str, cached: bool, grouped: bool) -> dict[str, Any]:
    """CPU seconds to score pairs that share an instruction and, some of them, a query, in one order or another."""
    # The cache holds fewer queries than there are, as it does with millions.
    size = {"max_num_seqs": 16, "kv_cache_memory_bytes": 18 << 20}
    engine = {**VLLM, "enable_prefix_caching": cached, "options": size}
    scorer = teacher_of({"type": "causal", "model": model, "max_tokens": 1024, "engine": engine})
    rows = corpus.rows()
    queries = [row["queries"]["paraphrase"] for row in rows[:PREFIX_QUERIES]]
    passages = [row["text"]["en"][:120] for row in rows]
    places = [(q, (q + 7 * k) % len(passages)) for k in range(PREFIX_PASSAGES) for q in range(PREFIX_QUERIES)]
    composed = scorer.composer.compose(queries, passages, places)
    # One call sorts its pairs; calls of one query's next passage each are the order in which they came.
    groups = [composed] if grouped else [composed[i : i + 8] for i in range(0, len(composed), 8)]
    scorer.engine.logits(composed[:1])
    started = resource.getrusage(resource.RUSAGE_SELF)
    scores = np.concatenate([scorer.engine.logits(group) for group in groups])
    ended = resource.getrusage(resource.RUSAGE_SELF)
    seconds = ended.ru_utime + ended.ru_stime - started.ru_utime - started.ru_stime
    return {"seconds": seconds, "tokens": sum(len(pair.ids) for pair in composed), "scores": scores.tolist()}


def run_other(python: str, file: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    subprocess.run([python, __file__, "--work", str(file)], env=environment, check=True, cwd=ROOT)


def parity(python: str, folder: Path) -> None:
    queries, passages = texts()
    plan: dict[str, Any] = {"cases": cases(folder)}
    composed = []
    with torch.inference_mode():
        for case in plan["cases"]:
            scorer = teacher_of(case["teacher"], {"type": "transformers"})
            composed.append(scorer.composer.compose(queries, passages, pairs()))
            case["expected"] = plain_logits(case, composed[-1])
    file = folder / "plan.json"
    file.write_text(json.dumps(plan))
    run_other(python, file)
    plan = json.loads(file.read_text())
    print(
        f"\nvllm {plan['vllm']}, {plan['versions']}; plain pass: torch {torch.__version__}, transformers {transformers.__version__}\n"
    )
    print("| model | pairs | cut | ids equal | logits from, to | largest difference |\n|---|---|---|---|---|---|")
    for case, ours in zip(plan["cases"], composed, strict=True):
        expected, scores = np.array(case["expected"]), np.array(case["scores"])
        same = case["ids"] == [pair.ids for pair in ours]
        cut = sum(pair.truncated for pair in ours)
        span = f"{expected.min():.2f}, {expected.max():.2f}"
        print(
            f"| {case['label']} | {len(ours)} | {cut} | {'yes' if same else 'NO'} | {span} | {np.abs(expected - scores).max():.1e} |"
        )


def prefixes(python: str, folder: Path) -> None:
    save_causal(folder / "prefix", "Qwen3", ["no", "yes"], 9, **PREFIX_MODEL)
    rows = [{"cached": cached, "grouped": grouped} for cached in (False, True) for grouped in (False, True)]
    file = folder / "prefix.json"
    file.write_text(json.dumps({"model": str(folder / "prefix"), "prefix": rows}))
    run_other(python, file)
    rows = json.loads(file.read_text())["prefix"]
    print("\n| prefix cache | order | tokens | CPU s | largest difference to the first |\n|---|---|---|---|---|")
    for row in rows:
        words = ("on" if row["cached"] else "off", "by beginning" if row["grouped"] else "as they came")
        difference = np.abs(np.array(row["scores"]) - np.array(rows[0]["scores"])).max()
        print(f"| {words[0]} | {words[1]} | {row['tokens']} | {row['seconds']:.1f} | {difference:.1e} |", flush=True)


def http(python: str, folder: Path) -> None:
    """Score with the same cross-encoder behind vLLM's own server."""
    model = folder / "XLMRoberta"
    if not model.is_dir():
        save_cross_encoder(model, "XLMRoberta", 0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    arguments = [
        "--model",
        str(model),
        "--served-model-name",
        "reranker",
        "--dtype",
        "float32",
        "--enforce-eager",
        "--port",
        str(port),
    ]
    command = [
        python,
        "-m",
        "vllm.entrypoints.openai.api_server",
        *arguments,
        "--host",
        "127.0.0.1",
        "--runner",
        "pooling",
    ]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: urllib.request.urlopen(f"{url}/health", timeout=5).status == 200, server)
        queries, passages = texts()
        passages = [text[:200] for text in passages]
        expected = (
            teacher_of({"type": "cross_encoder", "model": str(model), "max_tokens": 400})
            .score(queries, passages, pairs())
            .scores
        )
        print("\n| endpoint | pairs | largest difference |\n|---|---|---|")
        for api, path, activated in (("vllm_score", "/score", False), ("cohere_rerank", "/rerank", True)):
            settings = HttpTeacher(
                url=url + path, api=api, model="reranker", raw_scores=not activated, pairs_per_request=5  # type: ignore[arg-type]
            )  # fmt: skip
            scores = load_teacher(settings, "float32", 1, "cpu").score(queries, passages, pairs()).scores
            wanted = 1 / (1 + np.exp(-expected)) if activated else expected
            print(f"| {path}{', sigmoid' if activated else ''} | {len(scores)} | {np.abs(scores - wanted).max():.1e} |")
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # it and its engine; nothing of them is kept
        server.wait()


def wait_until(ready: Callable[[], bool], server: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        if server.poll() is not None:
            raise SystemExit(f"the server ended with {server.returncode}")
        try:
            if ready():
                return
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(1)
    raise SystemExit("the server did not answer in ten minutes")


def stage(python: str, folder: Path) -> None:
    """`jobs/score.py` with its actors in the other Python, against the transformers engine in this one."""
    if not (folder / "Qwen3").is_dir():
        save_causal(folder / "Qwen3", "Qwen3", ["no", "yes"], 0)
    rows = corpus.rows()[:40]
    passages = {row["id"]: row["text"]["en"] for row in rows}
    queries = {f"q-{row['id']}": row["queries"]["question"]["en"] for row in rows[:20]}
    for name, records in (("passages", passages), ("queries", queries)):
        lines = [json.dumps({"id": key, "text": text}) + "\n" for key, text in records.items()]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    asked = [(q, p) for i, q in enumerate(queries) for p in list(passages)[i : i + 8]]
    run = [f"{q} Q0 {p} {1 + place % 8} {-place} x\n" for place, (q, p) in enumerate(asked)]
    (folder / "candidates.trec").write_text("".join(run))
    teacher = {"type": "causal", "model": str(folder / "Qwen3"), "prompt": "qwen3", "max_tokens": 800}
    variables = {"VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1"}
    config = {
        "storage": str(folder / "storage"),
        "source": {"type": "files", "root": str(folder), "passages": ["passages.jsonl"], "queries": ["queries.jsonl"]},
        "select": {"by": {"type": "run", "path": str(folder / "candidates.trec"), "top_k": 8}},
        "score": {
            "teacher": {**teacher, "engine": VLLM},
            "queries_per_shard": 10,
            "pool": {"runtime_env": {"py_executable": python, "env_vars": variables}},
        },
    }
    (folder / "job.yaml").write_text(json.dumps(config))  # JSON is YAML
    subprocess.run(
        [sys.executable, str(ROOT / "jobs/score.py"), "--config", str(folder / "job.yaml")], check=True, cwd=ROOT
    )
    (manifest,) = (folder / "storage/stages").glob("score-*/manifest.json")
    provenance = json.loads(manifest.read_text())["notes"]["provenance"]
    table = pq.read_table(manifest.parent / "scores").to_pylist()
    found = {(row["query_id"], p): s for row in table for p, s in zip(row["passage_ids"], row["scores"], strict=True)}
    places = [(list(queries).index(q), list(passages).index(p)) for q, p in asked]
    scorer = teacher_of(teacher)
    expected = scorer.score(list(queries.values()), list(passages.values()), places).scores
    assert set(found) == set(asked)
    difference = max(abs(found[pair] - score) for pair, score in zip(asked, expected.tolist(), strict=True))
    engines = f"{provenance['engine']} {provenance['engine_version']} against transformers {transformers.__version__}"
    print(f"\nThrough the score stage, {len(asked)} pairs, {engines}: largest difference {difference:.1e}")


PARTS: dict[str, Callable[[str, Path], None]] = {"parity": parity, "prefixes": prefixes, "http": http, "stage": stage}

if __name__ == "__main__":
    if sys.argv[1] == "--work":
        work(Path(sys.argv[2]))
    else:
        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory() as temporary:
            for part in sys.argv[2:] or PARTS:
                PARTS[part](sys.argv[1], Path(temporary))
