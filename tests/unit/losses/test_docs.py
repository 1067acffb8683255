"""docs/losses.md names every loss and parameter, and its two last columns say what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stillhouse.losses import LOSSES

PAGE = Path(__file__).parents[3] / "docs" / "losses.md"


def cells(name: str) -> list[str]:
    (line,) = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{name}` |")]
    return [cell.strip() for cell in line.replace(r"\|", "").strip("|").split("|")]


@pytest.mark.parametrize("name", LOSSES)
def test_page_agrees_with_the_code(name: str) -> None:
    loss, found = LOSSES[name], cells(name)
    parameters = cells("softmax_ce")[2] if found[2] == "as `softmax_ce`" else found[2]
    assert [p for p in loss.defaults if f"`{p}`" not in parameters] == []
    if loss.needs_teacher:
        reads = found[3].split(", ")
        assert ("order" in reads, "y" in reads) == (not loss.needs_magnitudes, loss.needs_labels)

    scores = torch.tensor([[2.0, 1.0, 3.0]])
    _, no_positive = loss(scores, scores.flip(1), torch.zeros(1, 3), scores > 0)
    _, one_document = loss(scores[:, :1], scores[:, :1], torch.ones(1, 1), scores[:, :1] > 0)
    assert (found[-2] == "silent", found[-1] == "silent") == (no_positive.item() == 0, one_document.item() == 0)
