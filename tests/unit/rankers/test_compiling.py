"""`compile: true`: the same scores and gradients from compiled blocks."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stillhouse.errors import RecipeError
from stillhouse.rankers import RANKERS, load_ranker
from tests.contracts.ranker_contract import CAPS, DOCS, QUERIES
from tests.contracts.tiny_models import write_model


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("bert"), "bert")


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_scores_are_equal(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor.config

    # In this process: workers of their own take longer to start than one block to compile.
    monkeypatch.setattr(torch._inductor.config, "compile_threads", 1)
    plain = RANKERS["prettr"].from_backbone(str(bert), num_layers=2, num_separate_layers=1, **CAPS)
    compiled = RANKERS["prettr"].from_backbone(str(bert), num_layers=2, num_separate_layers=1, compile=True, **CAPS)
    assert dict(compiled.named_parameters()).keys() == dict(plain.named_parameters()).keys()
    torch.testing.assert_close(compiled.score(QUERIES, DOCS), plain.score(QUERIES, DOCS), rtol=1e-5, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
    compiled.save_pretrained(tmp_path / "saved")
    assert load_ranker(tmp_path / "saved").spec.compile


def test_without_a_compiler(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    saved = RANKERS["cross_encoder"].from_backbone(str(bert), **CAPS)
    saved.spec = saved.spec.model_copy(update={"compile": True})
    saved.save_pretrained(tmp_path / "saved")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(RecipeError, match=r"needs a C\+\+ compiler"):
        RANKERS["cross_encoder"].from_backbone(str(bert), compile=True, **CAPS)
    # Made elsewhere: it opens, and says that it is not compiled.
    assert load_ranker(tmp_path / "saved").score(["river"], [["stone"]]).isfinite().all()
    assert "no C++ compiler here" in caplog.text
