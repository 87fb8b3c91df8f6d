import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

from distill.encoders.checkpoints import load_late_interaction, save_encoder
from distill.encoders.encoder import Encoder
from distill.encoders.late_interaction import EncoderSettings, LateInteractionEncoder
from distill.encoders.single_vector import SingleVectorEncoder, SingleVectorSettings
from distill.models.locate import ModelError
from distill.numerics.maxsim import maxsim


def test_maxsim_by_hand() -> None:
    queries = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    passages = torch.tensor([[[[1.0, 0.0], [0.6, 0.8]], [[0.0, -1.0], [0.8, 0.6]]]])
    keep = torch.tensor([[[True, True], [True, True]]])
    # first passage: max(1, .6) + max(0, .8); second: max(0, .8) + max(-1, .6)
    assert maxsim(queries, passages, keep).tolist() == [[pytest.approx(1.8), pytest.approx(1.4)]]


def test_maxsim_leaves_masked_tokens_out_even_if_all_products_are_negative() -> None:
    queries = torch.tensor([[[-1.0, 0.0]]])
    passages = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    assert maxsim(queries, passages, torch.tensor([[[True, False]]])).item() == -1.0


def test_queries_are_marked_and_padded_with_masks(tiny_student: Path) -> None:
    encoder = load_late_interaction(tiny_student)
    vocabulary = encoder.tokenizer.get_vocab()
    batch = encoder.tokenize_queries(["honey bee"])
    names = ["[CLS]", "[unused0]", "honey", "bee", "[SEP]", "[MASK]", "[MASK]", "[MASK]"]
    assert batch.ids.tolist() == [[vocabulary[name] for name in names]]
    assert batch.attention.tolist() == [[1, 1, 1, 1, 1, 0, 0, 0]]
    assert batch.keep.all()


def test_long_queries_keep_their_separator(tiny_student: Path) -> None:
    encoder = load_late_interaction(tiny_student)
    ids = encoder.tokenize_queries(["bee " * 20]).ids
    assert ids.shape == (1, 8)
    assert ids[0, -1] == encoder.tokenizer.sep_token_id


def test_passages_leave_punctuation_and_padding_out_of_the_score(tiny_student: Path) -> None:
    encoder = load_late_interaction(tiny_student)
    batch = encoder.tokenize_passages(["bee, honey.", "bee"])
    vocabulary = encoder.tokenizer.get_vocab()
    names = ["[CLS]", "[unused1]", "bee", ",", "honey", ".", "[SEP]"]
    assert batch.ids[0].tolist() == [vocabulary[name] for name in names]
    assert batch.keep.tolist() == [
        [True, True, True, False, True, False, True],
        [True, True, True, True, False, False, False],
    ]


def test_vectors_are_the_projected_hidden_states_normalised(tiny_student: Path) -> None:
    encoder = load_late_interaction(tiny_student)
    batch = encoder.tokenize_passages(["bee , honey"])
    with torch.inference_mode():
        hidden = encoder.backbone(input_ids=batch.ids, attention_mask=batch.attention).last_hidden_state[0]
        projected = hidden @ encoder.projection.weight.T
        expected = projected / projected.norm(dim=-1, keepdim=True)
    found = encoder.encode_passages(["bee , honey"])[0]
    assert torch.allclose(found, expected[batch.keep[0]], atol=1e-6)


def test_a_passage_has_the_same_vectors_in_any_batch(tiny_student: Path) -> None:
    encoder = load_late_interaction(tiny_student)
    texts = ["bee", "honey bee dance sun angle food comb", "river bridge", "stone arch road city map"]
    together = encoder.encode_passages(texts, tokens_per_batch=64)
    for text, vectors in zip(texts, together, strict=True):
        assert torch.allclose(vectors, encoder.encode_passages([text])[0], atol=1e-5)


def test_mask_tokens_of_a_query_do_not_change_its_other_vectors(tiny_student: Path) -> None:
    encoder = load_late_interaction(tiny_student)
    batch = encoder.tokenize_queries(["honey bee"])
    with torch.inference_mode():
        padded = encoder(*batch)[0, :5]
        bare = encoder(batch.ids[:, :5], batch.attention[:, :5], batch.keep[:, :5])[0]
    assert torch.allclose(padded, bare, atol=1e-6)


def test_saved_and_loaded_gives_the_same_vectors(tiny_student: Path, tmp_path: Path) -> None:
    encoder = load_late_interaction(tiny_student)
    save_encoder(encoder, tmp_path, {"lr": 5e-6})
    again = load_late_interaction(tmp_path)
    assert torch.equal(encoder.encode_queries(["honey bee"]), again.encode_queries(["honey bee"]))
    metadata = json.loads((tmp_path / "artifact.metadata").read_text())
    expected = {
        "query_token_id": "[unused0]",
        "doc_token_id": "[unused1]",
        "dim": 16,
        "query_maxlen": 8,
        "doc_maxlen": 32,
        "lr": 5e-6,
    }
    assert {name: metadata[name] for name in expected} == expected
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["HF_ColBERT"]


def test_the_layout_is_the_one_that_others_read(tiny_student: Path) -> None:
    from safetensors.torch import load_file

    state = load_file(tiny_student / "model.safetensors")
    assert state["linear.weight"].shape == (16, 32)
    assert "bert.embeddings.word_embeddings.weight" in state
    assert all(name.startswith("bert.") for name in state if name != "linear.weight")


def test_sentence_transformers_gives_the_same_vectors(tiny_student: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    if not hasattr(sentence_transformers, "MultiVectorEncoder"):
        pytest.skip("sentence-transformers before 6 has no MultiVectorEncoder")
    other = sentence_transformers.MultiVectorEncoder(str(tiny_student), device="cpu")
    ours = load_late_interaction(tiny_student)
    theirs = torch.as_tensor(other.encode_document(["bee , honey dance"])[0]).float()
    mine = ours.encode_passages(["bee , honey dance"])[0]
    assert mine.shape == theirs.shape
    assert torch.allclose(mine, theirs, atol=1e-5)


def test_xlm_roberta_overwrite_leaves_the_full_stop(tmp_path: Path) -> None:
    """PLAID-X writes its marker over the first piece of '. ', which XLM-R splits in two: '.' stays at index 2."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", ".", "▁bee", ",", "<mask>"]
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0 - i) for i, piece in enumerate(pieces)], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>", pad_token="<pad>",
        unk_token="<unk>", mask_token="<mask>",
    )  # fmt: skip
    config = XLMRobertaConfig(
        vocab_size=9, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, pad_token_id=1
    )
    settings = EncoderSettings(dim=4, query_tokens=8, marker_mode="overwrite")
    encoder = LateInteractionEncoder.assemble(XLMRobertaModel(config), fast, settings)
    assert encoder.tokenize_queries(["bee"]).ids.tolist() == [[0, 9, 5, 6, 2, 8, 8, 8]]
    batch = encoder.tokenize_passages(["bee , ."])
    # the skip-list holds the first piece of each mark, the bare '▁': that is left out and '.' is kept
    assert batch.ids.tolist() == [[0, 10, 5, 6, 4, 7, 4, 5, 2]]
    assert batch.keep.tolist() == [[True, True, True, True, False, True, False, True, True]]
    save_encoder(encoder, tmp_path)
    assert load_late_interaction(tmp_path).tokenize_queries(["bee"]).ids.tolist() == [[0, 9, 5, 6, 2, 8, 8, 8]]


def test_a_folder_without_metadata_is_refused(tiny_bert: Path) -> None:
    with pytest.raises(ModelError, match=r"has no artifact\.metadata"):
        load_late_interaction(tiny_bert)


def test_pickled_weights_are_refused(tiny_student: Path, tmp_path: Path) -> None:
    for name in ("config.json", "artifact.metadata", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_student / name).read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no \.safetensors weights"):
        load_late_interaction(tmp_path)


def test_missing_weights_are_named(tiny_student: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in tiny_student.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    del state["bert.encoder.layer.1.output.dense.weight"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(
        ModelError, match=r"lacks 1 weights of BertModel, among them \['encoder.layer.1.output.dense.weight'\]"
    ):
        load_late_interaction(tmp_path)


def test_any_hugging_face_backbone_loads(tiny_bert: Path) -> None:
    settings = EncoderSettings(dim=8, query_tokens=8)
    encoder = LateInteractionEncoder.from_backbone(str(tiny_bert), settings)
    assert encoder.encode_queries(["bee"]).shape == (1, 8, 8)
    plain = AutoModel.from_pretrained(tiny_bert)
    assert torch.equal(
        plain.embeddings.word_embeddings.weight, encoder.backbone.get_parameter("embeddings.word_embeddings.weight")
    )
    assert len(AutoTokenizer.from_pretrained(tiny_bert)) == len(encoder.tokenizer)


def bare_queries(folder: Path) -> LateInteractionEncoder:
    """The student of `folder`, its queries without expansion."""
    student = load_late_interaction(folder)
    settings = replace(student.settings, query_expansion=False)
    return LateInteractionEncoder(student.backbone, student.projection, student.tokenizer, settings).eval()


def test_queries_without_expansion_are_padded_with_nothing(tiny_student: Path) -> None:
    encoder = bare_queries(tiny_student)
    vocabulary = encoder.tokenizer.get_vocab()
    batch = encoder.tokenize_queries(["honey bee"])
    names = ["[CLS]", "[unused0]", "honey", "bee", "[SEP]", "[PAD]", "[PAD]", "[PAD]"]
    assert batch.ids.tolist() == [[vocabulary[name] for name in names]]
    assert batch.attention.tolist() == [[1, 1, 1, 1, 1, 0, 0, 0]]
    assert batch.keep.tolist() == [[True] * 5 + [False] * 3]


def test_scores_without_expansion_are_those_of_the_bare_query(tiny_student: Path) -> None:
    encoder = bare_queries(tiny_student)
    passages = encoder.encode_passages(["bee dance", "river bridge city"])
    padded = encoder.encode_queries(["honey bee"])
    batch = encoder.tokenize_queries(["honey bee"])
    with torch.inference_mode():
        bare = encoder(batch.ids[:, :5], batch.attention[:, :5], batch.keep[:, :5])
    assert padded.shape == (1, 8, 16)
    assert torch.equal(padded[0, 5:], torch.zeros(3, 16))
    for passage in passages:
        keep = torch.ones(1, 1, len(passage), dtype=torch.bool)
        found, expected = (maxsim(query, passage[None, None], keep).item() for query in (padded, bare))
        assert found == pytest.approx(expected, abs=1e-5)
        assert expected == pytest.approx((bare[0] @ passage.T).amax(1).sum().item(), abs=1e-5)


def test_expansion_is_kept_in_checkpoints_and_is_the_default(tiny_student: Path, tmp_path: Path) -> None:
    assert json.loads((tiny_student / "artifact.metadata").read_text())["query_expansion"] is True
    save_encoder(bare_queries(tiny_student), tmp_path)
    assert json.loads((tmp_path / "artifact.metadata").read_text())["query_expansion"] is False
    assert load_late_interaction(tmp_path).settings.query_expansion is False
    metadata = json.loads((tmp_path / "artifact.metadata").read_text())
    del metadata["query_expansion"]
    (tmp_path / "artifact.metadata").write_text(json.dumps(metadata))
    assert load_late_interaction(tmp_path).settings.query_expansion is True


@pytest.mark.parametrize("settings", [None, SingleVectorSettings(), SingleVectorSettings(dim=5)])
def test_one_text_is_no_list_and_no_texts_have_no_vectors(
    tiny_student: Path, settings: SingleVectorSettings | None
) -> None:
    """An empty result has the shape that any other has, so that results can be joined."""
    student: Encoder = load_late_interaction(tiny_student)
    shape = (0, student.settings.query_tokens, student.dim)
    if settings:
        student = SingleVectorEncoder(student.backbone, student.tokenizer, settings)
        shape = (0, 1, student.dim)
    assert student.encode_queries([]).shape == shape
    assert torch.cat([student.encode_queries([]), student.encode_queries(["honey"])]).shape == (1, *shape[1:])
    assert student.encode_passages([]) == student.encode_each_query([]) == student.query_rows([]) == []
    encodings = [
        student.encode_queries,
        student.encode_passages,
        student.encode_each_query,
        student.query_rows,
        student.passage_rows,
    ]
    if isinstance(student, SingleVectorEncoder):
        assert student.query_vectors([]).shape == student.passage_vectors([]).shape == (0, student.dim)
        encodings += [student.query_vectors, student.passage_vectors]
    for encode in encodings:
        with pytest.raises(
            TypeError, match=r"expected a list of texts, found one text \('honey'\); put it into a list"
        ):
            encode("honey")
