"""The precision that an encoder reaches without training on the data of MAML-Align (arXiv 2309.08185), measured as the job measures it.

    python benchmarks/maml_reference.py questions --questions queries.jsonl.gz --candidates candidates.jsonl.gz --qrels qrels.gz
    python benchmarks/maml_reference.py questions --lareqa xquad-r
    python benchmarks/maml_reference.py pairs --train train.jsonl.gz --dev dev.jsonl.gz --test test.jsonl.gz --languages en de es ru zh

`questions`: AP@20 of every question over the candidates of all languages (`source.type: questions` or `lareqa`), on the articles that the
field `--split-field` puts into the test, or without it on all of five folds. `pairs`: Pearson's and Spearman's correlations of sentence
pairs (`source.type: sentence_pairs`). The encoder is the English all-MiniLM-L6-v2 of the `embedded` extra unless `--encoder` names another.
"""

import argparse
import tempfile
import time
from pathlib import Path

import pyarrow.compute as pc

from distill.encoders.checkpoints import load_backbone, save_encoder
from distill.encoders.single_vector import SingleVectorEncoder, SingleVectorSettings
from distill.meta.evaluate.compare import compare
from distill.meta.evaluate.estimates import UNSEEN
from distill.meta.evaluate.stage import evaluate
from distill.meta.settings import LareqaQuestions, MetaEvaluateSettings, MetaSource, QuestionFiles, SentencePairFiles
from distill.meta.sources.folds import Fold
from distill.meta.sources.stage import ingest
from distill.models.fetch import fetch_folder
from distill.models.locate import BUNDLED_TEACHER
from tests.workspaces import LocalWorkspace


def main() -> None:
    """Measure, print a line for each language or pair of languages, and say what it cost."""
    arguments = _parsed()
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        root = Path(folder)
        sources = LocalWorkspace(root, "meta_sources")
        ingest(sources, _source(arguments), 0.01)
        backbone, tokenizer = load_backbone(fetch_folder(arguments.encoder))
        settings = SingleVectorSettings(query_tokens=arguments.query_tokens, passage_tokens=arguments.passage_tokens)
        save_encoder(SingleVectorEncoder(backbone, tokenizer, settings), root / "meta_start" / "start")
        start = LocalWorkspace(root, "meta_start")
        own_split = arguments.kind == "pairs" or arguments.split_field
        folds = [Fold(0, None, 0)] if own_split else [Fold(number, 5, 0) for number in range(5)]
        kind = "similarity" if arguments.kind == "pairs" else "retrieval"
        evaluating = MetaEvaluateSettings(languages=tuple(arguments.languages))
        stages = {}
        for fold in folds:
            stages[f"evaluate_{fold.number}"] = LocalWorkspace(
                root, f"evaluate_{fold.number}", {"meta_sources": sources, "meta_start": start}
            )
            workspace = stages[f"evaluate_{fold.number}"]
            evaluate(workspace, evaluating, kind, fold, "meta_sources", "meta_start", "start")
            print(f"fold {fold.number}: {workspace.facts}")
        compared = LocalWorkspace(root, "compare", stages)
        systems = {"zero_shot": {fold.number: f"evaluate_{fold.number}" for fold in folds}}
        compare(compared, evaluating, kind, "zero_shot", systems, seen=())
        _print(compared)
        print(f"{time.process_time() - started:.0f} CPU-seconds")


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    questions, pairs = kinds.add_parser("questions"), kinds.add_parser("pairs")
    for name in ("--questions", "--candidates", "--qrels", "--lareqa", "--split-field"):
        questions.add_argument(name)
    for name in ("--train", "--dev", "--test"):
        pairs.add_argument(name, required=True)
    for each, tokens in ((questions, (96, 256)), (pairs, (64, 64))):
        each.add_argument("--languages", nargs="*", default=[], help="of the questions and of the pool; none: all")
        each.add_argument("--encoder", default=BUNDLED_TEACHER)
        each.add_argument("--query-tokens", type=int, default=tokens[0])
        each.add_argument("--passage-tokens", type=int, default=tokens[1])
    return parser.parse_args()


def _source(arguments: argparse.Namespace) -> MetaSource:
    if arguments.kind == "pairs":
        return SentencePairFiles(train=arguments.train, dev=arguments.dev, test=arguments.test)
    if arguments.lareqa:
        return LareqaQuestions(path=arguments.lareqa)
    return QuestionFiles(
        questions=arguments.questions,
        candidates=arguments.candidates,
        qrels=arguments.qrels,
        split_field=arguments.split_field,
    )


def _print(compared: LocalWorkspace) -> None:
    results = compared.output("meta_results")
    for row in results.filter(
        pc.and_(pc.equal(results["fold"], "all"), pc.not_equal(results["group"], UNSEEN))
    ).to_pylist():
        interval = f"{row['low']:.3f} to {row['high']:.3f}"
        print(f"{row['measure']:<9} {row['group']:<8} {row['value']:.3f}   {interval}   {row['items']}")


if __name__ == "__main__":
    main()
