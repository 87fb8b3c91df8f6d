"""Checkpoints against sentence-transformers itself: what is written loads there with the same vectors, and the other way round."""

import json
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from torch import nn

from distill.encoders.checkpoints import (
    layout_of,
    load_encoder,
    load_late_interaction,
    load_single_vector,
    save_encoder,
)
from distill.encoders.late_interaction import EncoderSettings, LateInteractionEncoder
from distill.models.locate import ModelError
from tests.tiny_students import PASSAGES, QUERIES, late_interaction, save_backbone

SETTINGS = EncoderSettings(dim=16, query_tokens=12, passage_tokens=24, skip_list="token")


@pytest.fixture(scope="module", params=["bert", "xlmr"])
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_backbone(tmp_path_factory.mktemp(request.param) / request.param, request.param)


def same(ours: LateInteractionEncoder, theirs: Any) -> None:
    """Equal vectors of queries and passages, token by token."""
    queries = [torch.as_tensor(np.asarray(one)) for one in theirs.encode_query(QUERIES)]
    passages = [torch.as_tensor(np.asarray(one)) for one in theirs.encode_document(PASSAGES)]
    batch = ours.tokenize_queries(QUERIES)
    for mine, keep, other in zip(ours.encode_queries(QUERIES), batch.keep, queries, strict=True):
        assert mine[keep].shape == other.shape
        assert torch.allclose(mine[keep], other, atol=1e-5)
    for mine, other in zip(ours.encode_passages(PASSAGES), passages, strict=True):
        assert mine.shape == other.shape
        assert torch.allclose(mine, other, atol=1e-5)


def loaded(folder: Path) -> MultiVectorEncoder:
    return MultiVectorEncoder(str(folder), device="cpu")


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"attend_to_mask_tokens": True},
        {"mask_punctuation": False},
        {"query_expansion": False},
        {"skip_list": "first_piece"},
        {"skip_words": ("bee", "▁bee", ".", "absent")},
    ],
)
def test_written_for_multi_vector_encoder(backbone: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    student = late_interaction(backbone, replace(SETTINGS, **changed))
    save_encoder(student, tmp_path, {"lr": 5e-6}, "sentence_transformers")
    assert layout_of(tmp_path) == "multi_vector"
    same(student, loaded(tmp_path))
    same(load_late_interaction(tmp_path), loaded(tmp_path))
    assert json.loads((tmp_path / "config_sentence_transformers.json").read_text())["polyray"] == {"lr": 5e-6}


@pytest.mark.parametrize("changed", [{}, {"attend_to_mask_tokens": True}, {"mask_punctuation": False}])
def test_hf_colbert_in_multi_vector_encoder(backbone: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    student = late_interaction(backbone, replace(SETTINGS, **changed))
    save_encoder(student, tmp_path)
    assert layout_of(tmp_path) == "hf_colbert"
    same(student, loaded(tmp_path))
    same(load_late_interaction(tmp_path), loaded(tmp_path))


def test_overwriting_is_inserting_where_the_stop_is_one_piece(tmp_path: Path) -> None:
    student = late_interaction(save_backbone(tmp_path / "bert", "bert"), replace(SETTINGS, marker_mode="overwrite"))
    save_encoder(student, tmp_path / "out", layout="sentence_transformers")
    same(student, loaded(tmp_path / "out"))
    assert load_late_interaction(tmp_path / "out").settings.marker_mode == "insert"


def test_overwriting_with_two_pieces_is_refused(tmp_path: Path) -> None:
    student = late_interaction(save_backbone(tmp_path / "xlmr", "xlmr"), replace(SETTINGS, marker_mode="overwrite"))
    with pytest.raises(
        ModelError, match=r"marker_mode 'overwrite'.*\['<s>', '\[unused0\]', '▁bee'.*'\[unused0\]', '\.', '▁bee'"
    ):
        save_encoder(student, tmp_path / "out", layout="sentence_transformers")


def multi_vector(backbone: Path, prompts: dict[str, str], words: list[str], **transformer: Any) -> MultiVectorEncoder:
    """A model that sentence-transformers makes itself."""
    torch.manual_seed(3)
    modules = [
        Transformer(str(backbone), **transformer),
        Dense(32, 16, bias=False, activation_function=nn.Identity(), module_input_name="token_embeddings"),
        MultiVectorMask(words),
        Normalize("token_embeddings"),
    ]
    return MultiVectorEncoder(modules=modules, prompts=prompts, device="cpu")


@pytest.mark.parametrize(
    ("prompts", "words", "transformer"),
    [
        ({}, [], {}),
        ({"query": "bee: ", "document": "honey. "}, list(string.punctuation), {"document_length": 14}),
        ({"query": "bee ", "document": ""}, ["bee"], {"query_length": 9, "max_seq_length": 16}),
        (
            {"query": "bee ", "document": ""},
            ["."],
            {"query_expansion": {"strategy": "fixed", "attend": True, "length": 14}},
        ),
        (
            {"query": "bee ", "document": ""},
            ["."],
            {"query_expansion": {"strategy": "fixed", "length": 14}, "max_seq_length": 20},
        ),
    ],
)
def test_multi_vector_encoder_read(
    backbone: Path, tmp_path: Path, prompts: dict[str, str], words: list[str], transformer: dict[str, Any]
) -> None:
    theirs = multi_vector(backbone, prompts, words, **transformer)
    theirs.save_pretrained(str(tmp_path), create_model_card=False)
    ours = load_late_interaction(tmp_path)
    assert ours.settings.marker_mode == "prompt"
    same(ours, theirs)
    # what is told apart by texts is kept in the layout that has texts
    save_encoder(ours, tmp_path / "again")
    assert layout_of(tmp_path / "again") == "multi_vector"
    same(ours, loaded(tmp_path / "again"))
    with pytest.raises(ModelError, match="has marker tokens, but this student's marker_mode is 'prompt'"):
        save_encoder(ours, tmp_path / "hf", layout="hf_colbert")


def test_a_prompt_that_is_a_token_is_a_marker(backbone: Path, tmp_path: Path) -> None:
    theirs = multi_vector(backbone, {"query": "[Q] ", "document": "[D]"}, [])
    theirs.tokenizer.add_tokens(["[Q]", "[D]"], special_tokens=True)
    transformer: Any = theirs[0]
    transformer.auto_model.resize_token_embeddings(len(theirs.tokenizer))
    theirs.save_pretrained(str(tmp_path), create_model_card=False)
    ours = load_late_interaction(tmp_path)
    assert (ours.settings.marker_mode, ours.settings.query_marker, ours.settings.passage_marker) == (
        "insert",
        "[Q]",
        "[D]",
    )
    same(ours, theirs)
    save_encoder(ours, tmp_path / "hf")
    same(load_late_interaction(tmp_path / "hf"), theirs)


def write_as_pylate(student: LateInteractionEncoder, folder: Path, **config: Any) -> None:
    """A student in PyLate's layout: that of PyLate 1.2's own files, for which there is `benchmarks/student_parity.py`."""
    save_encoder(student, folder, layout="sentence_transformers")
    for name in ("2_MultiVectorMask", "3_Normalize"):
        (folder / name / "config.json").unlink()
        (folder / name).rmdir()
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Dense", "type": "pylate.models.Dense.Dense"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 23, "do_lower_case": False}))
    dense = {
        "in_features": 32,
        "out_features": 16,
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    (folder / "1_Dense" / "config.json").write_text(json.dumps(dense))
    whole = {
        "__version__": {"pylate": "1.2.0"}, "prompts": {}, "default_prompt_name": None, "similarity_fn_name": "MaxSim",
        "query_prefix": student.settings.query_marker, "document_prefix": student.settings.passage_marker,
        "query_length": student.settings.query_tokens, "document_length": student.settings.passage_tokens,
        "attend_to_expansion_tokens": student.settings.attend_to_mask_tokens, "skiplist_words": list(string.punctuation),
        "model_type": "ColBERT",
    }  # fmt: skip
    (folder / "config_sentence_transformers.json").write_text(json.dumps(whole | config))


@pytest.mark.parametrize("attend", [False, True])
def test_pylate_read_as_sentence_transformers_reads_it(backbone: Path, tmp_path: Path, attend: bool) -> None:
    markers = {"query_marker": "[Q] ", "passage_marker": "[D] "}
    student = late_interaction(backbone, replace(SETTINGS, attend_to_mask_tokens=attend, **markers))
    write_as_pylate(student, tmp_path)
    assert layout_of(tmp_path) == "pylate"
    ours = load_late_interaction(tmp_path)
    assert ours.settings == replace(student.settings, skip_list="token_or_unknown")
    same(ours, loaded(tmp_path))
    same(ours, student_and_device(student))


def student_and_device(student: LateInteractionEncoder) -> Any:
    class Same:
        def encode_query(self, texts: list[str]) -> list[torch.Tensor]:
            return list(student.encode_queries(texts))

        def encode_document(self, texts: list[str]) -> list[torch.Tensor]:
            return student.encode_passages(texts)

    return Same()


def test_pylates_own_defaults(tmp_path: Path) -> None:
    student = late_interaction(save_backbone(tmp_path / "bert", "bert"), SETTINGS)
    write_as_pylate(
        student, tmp_path / "p", query_length=None, document_length=None, skiplist_words=None, do_query_expansion=False
    )
    found = load_late_interaction(tmp_path / "p").settings
    assert (found.query_tokens, found.passage_tokens, found.query_expansion) == (32, 180, False)
    assert found.skip_words == tuple(string.punctuation)


def test_pylate_leaves_unknown_tokens_out_where_a_mark_has_no_token(tmp_path: Path) -> None:
    student = late_interaction(save_backbone(tmp_path / "bert", "bert"), SETTINGS)
    write_as_pylate(student, tmp_path / "p", skiplist_words=[".", "€"])
    tokens = load_late_interaction(tmp_path / "p")
    assert sorted(tokens.skipped_tokens) == [".", "[UNK]"]
    batch = tokens.tokenize_passages(["bee . € ,"])
    assert batch.keep.tolist() == [[True, True, True, False, False, True, True]]
    # sentence-transformers has no unknown words in its list, but takes the unknown token itself
    save_encoder(tokens, tmp_path / "st", layout="sentence_transformers")
    same(tokens, loaded(tmp_path / "st"))


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    ("file", "field", "value"),
    [
        ("config_sentence_transformers.json", "similarity_fn_name", "meanmaxsim"),
        ("config_sentence_transformers.json", "query_prefix", "[Q] "),
        ("config_sentence_transformers.json", "model_type", "SparseEncoder"),
        ("config_sentence_transformers.json", "prompts", {"passage": "p: "}),
        ("sentence_bert_config.json", "do_lower_case", True),
        ("sentence_bert_config.json", "transformer_task", "fill-mask"),
        ("sentence_bert_config.json", "processing_kwargs", {"text": {"padding": False}}),
        ("sentence_bert_config.json", "model_args", {"attn_implementation": "eager"}),
        ("sentence_bert_config.json", "query_expansion", {"strategy": "min", "length": 8}),
        ("sentence_bert_config.json", "query_expansion", {"strategy": "fixed", "length": 8, "token": "[PAD]"}),
        ("1_Dense/config.json", "bias", True),
        ("1_Dense/config.json", "activation_function", "torch.nn.modules.activation.Tanh"),
        ("1_Dense/config.json", "use_residual", True),
        ("1_Dense/config.json", "module_input_name", "sentence_embedding"),
        ("2_MultiVectorMask/config.json", "skiplist_tasks", ["query", "document"]),
        ("2_MultiVectorMask/config.json", "keep_only_token_ids", [3]),
        ("3_Normalize/config.json", "module_input_name", "sentence_embedding"),
    ],
)
def test_what_a_student_cannot_have_is_named(tmp_path: Path, file: str, field: str, value: Any) -> None:
    student = late_interaction(save_backbone(tmp_path / "bert", "bert"), SETTINGS)
    save_encoder(student, tmp_path / "st", layout="sentence_transformers")
    change(tmp_path / "st" / file, **{field: value})
    with pytest.raises(ModelError) as caught:
        load_encoder(tmp_path / "st")
    assert str(tmp_path / "st" / file) in str(caught.value)
    named = {"query_expansion": "strategy" if "min" in str(value) else "token", "prompts": "prompts.passage"}.get(
        field, field
    )
    assert f"{named} is " in str(caught.value)
    assert ";" in str(caught.value)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"similarity": "l2"}, 'similarity is "l2"; only the cosine'),
        ({"interaction": "flipr"}, 'interaction is "flipr"'),
        ({"dim": 8}, "dim is 8; but linear.weight gives vectors of 16"),
        ({"marker_mode": "append"}, 'marker_mode is "append"; expected insert or overwrite'),
        ({"skip_list": "all"}, 'skip_list is "all"'),
    ],
)
def test_hf_colbert_that_a_student_cannot_be(tmp_path: Path, values: dict[str, Any], named: str) -> None:
    save_encoder(late_interaction(save_backbone(tmp_path / "bert", "bert"), SETTINGS), tmp_path / "c")
    change(tmp_path / "c" / "artifact.metadata", **values)
    with pytest.raises(ModelError, match=named):
        load_encoder(tmp_path / "c")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"prompts": {"query": "q: "}}, "prompts is"),
        ({"similarity_fn_name": "dot"}, "similarity_fn_name is"),
        ({"new_setting": 3}, "new_setting is 3; it is not known"),
    ],
)
def test_pylate_that_a_student_cannot_be(tmp_path: Path, values: dict[str, Any], named: str) -> None:
    write_as_pylate(late_interaction(save_backbone(tmp_path / "bert", "bert"), SETTINGS), tmp_path / "p", **values)
    with pytest.raises(ModelError, match=named):
        load_encoder(tmp_path / "p")


def test_several_projections_are_refused(tmp_path: Path) -> None:
    save_encoder(
        late_interaction(save_backbone(tmp_path / "bert", "bert"), SETTINGS), tmp_path, layout="sentence_transformers"
    )
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules.insert(2, modules[1])
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(
        ModelError, match=r'modules\.json: type is \["Transformer", "Dense", "Dense", .*a late-interaction student has'
    ):
        load_encoder(tmp_path)
    modules[0]["type"] = "custom.Transformer"
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match=r'\[0\]\.type is "custom\.Transformer"'):
        load_encoder(tmp_path)


def test_the_other_kind_is_refused(tmp_path: Path, tiny_bert: Path) -> None:
    save_encoder(late_interaction(save_backbone(tmp_path / "bert", "bert"), SETTINGS), tmp_path / "c")
    with pytest.raises(ModelError, match="is not a single-vector checkpoint but one of late interaction"):
        load_single_vector(tmp_path / "c")
    with pytest.raises(ModelError, match=r"is no checkpoint of a student: .*student\.start\.model"):
        load_encoder(tiny_bert)
