"""Folders for other libraries, and what they cannot say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import sentence_transformers
import torch

from stillhouse.errors import BackboneError
from stillhouse.rankers import RANKERS
from stillhouse.rankers.batching import Tokens
from stillhouse.rankers.export import export
from tests.contracts.ranker_contract import CAPS, DOCS, QUERIES
from tests.contracts.tiny_models import write_model


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("bert"), "bert")


@pytest.mark.parametrize(
    ("key", "target", "options", "named"),
    [
        ("dual_encoder", "sentence-transformers", {"tied": False}, "tied: false"),
        ("dual_encoder", "sentence-transformers", {"score_scale": 20.0}, "score_scale 20"),
        ("dual_encoder", "sentence-transformers", {"learn_score_scale": True}, "score_scale 1"),
        ("colbert", "sentence-transformers", {}, "append_n with 8 MASK tokens"),
        ("prettr", "sentence-transformers", {"num_separate_layers": 1}, "num_separate_layers: 1"),
        ("tk", "sentence-transformers", {}, "ranker: tk"),
        ("cross_encoder", "pylate", {}, "not cross_encoder"),
        ("colbert", "pylate", {"mask_mode": "pad_to_length"}, "similarity: dot, projection_dim: null"),
        ("colbert", "onnx", {}, "not colbert"),
        ("cross_encoder", "gguf", {}, "'gguf' is not one of"),
    ],
)
def test_what_a_target_cannot_express_is_named(
    bert: Path, tmp_path: Path, key: str, target: str, options: dict[str, Any], named: str
) -> None:
    ranker = RANKERS[key].from_backbone(str(bert), **CAPS, **options)
    with pytest.raises(BackboneError, match=named):
        export(ranker, tmp_path / "out", target)
    assert not (tmp_path / "out").exists()


def test_saving_without_words_for_it_leaves_no_library_files(bert: Path, tmp_path: Path) -> None:
    RANKERS["dual_encoder"].from_backbone(str(bert), **CAPS, tied=False).save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out" / "modules.json").exists()


@pytest.mark.parametrize("attend", [True, False])
@pytest.mark.parametrize("expansion", ["pad_to_length", "append_n"])
def test_pylate_layout(bert: Path, tmp_path: Path, attend: bool, expansion: str) -> None:
    """Read by sentence-transformers' own reader of PyLate folders."""
    options = {"mask_mode": expansion, "num_mask_tokens": 0, "attend_to_masks": attend, "skip_punctuation": attend}
    markers = {"query_marker": "[unused0]", "doc_marker": "[unused1]"}
    ranker = RANKERS["colbert"].from_backbone(
        str(bert), **CAPS, **options, **markers, similarity="cosine", projection_dim=8
    )
    export(ranker, tmp_path / "out", "pylate")
    model = sentence_transformers.MultiVectorEncoder(str(tmp_path / "out"), device="cpu")
    theirs_N = model.similarity(model.encode_query(QUERIES[1:]), model.encode_document(DOCS[1][:2]))[0]
    torch.testing.assert_close(ranker.score(QUERIES[1:], [DOCS[1][:2]])[0], theirs_N.cpu().float())


ONNX_OPTIONS: dict[str, dict[str, Any]] = {
    "cross_encoder": {},
    "dual_encoder": {"projection_dim": 8, "output_layer_norm": True, "similarity": "cosine"},
}


@pytest.mark.parametrize("key", ONNX_OPTIONS)
def test_onnx(bert: Path, tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of rows of any length, padded or not, also rows longer and shorter than those it was made with."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    ranker = RANKERS[key].from_backbone(str(bert), num_layers=1, **CAPS, **ONNX_OPTIONS[key]).train()
    export(ranker, tmp_path / "out", "onnx")
    assert ranker.training
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(str(tmp_path / "out" / "model.onnx"), options)
    generator = torch.Generator().manual_seed(5)
    for rows, length, padded in [(1, 1, 0), (1, 3, 0), (2, 8, 3), (5, 31, 12), (3, 160, 100)]:
        ids_PL = torch.randint(5, 60, (rows, length), generator=generator)
        mask_PL = torch.ones_like(ids_PL)
        mask_PL[0, length - padded :] = 0
        types_PL = (torch.arange(length) > length // 3).long().expand(rows, -1).contiguous()
        tensors = {"input_ids": ids_PL, "attention_mask": mask_PL, "token_type_ids": types_PL}
        (found,) = session.run(None, {name: tensor.numpy() for name, tensor in tensors.items()})
        tokens = Tokens(ids_PL, mask_PL, types_PL)
        with ranker.inference():
            expected = ranker.score_rows(tokens) if key == "cross_encoder" else ranker._encode(tokens, "doc")
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-5, atol=1e-5)

    # The code of the card makes the same rows and gives the same.
    monkeypatch.chdir(tmp_path / "out")
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", (tmp_path / "out" / "README.md").read_text(), re.DOTALL)[-1], names)
    docs = ["a document", "another one"]
    with ranker.inference():
        expected = (
            ranker.score(["a query"], [docs])[0]
            if key == "cross_encoder"
            else ranker.encode_docs(ranker.tokenise(docs))
        )
    torch.testing.assert_close(torch.from_numpy(names["outputs"]), expected, rtol=1e-5, atol=1e-5)
