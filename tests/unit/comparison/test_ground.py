"""A collection named on the command line, with a split in its name or beside it."""

from __future__ import annotations

import pytest

from stillhouse.comparison.ground import ground_named
from tests.conftest import write_folder


@pytest.mark.parametrize(("suffix", "split"), [("", "dev"), ("/dev", "test")])
def test_a_split_in_the_name_stays_that_split(tmp_path, suffix, split):
    folder = write_folder(tmp_path / "folder", splits={"train": 4, "dev": 3, "test": 5})
    ground = ground_named(f"{folder}{suffix}", split, tmp_path / "root")
    # Queries are numbered over the splits in their order: train has q0 to q3.
    assert set(ground.qrels) == {"q4", "q5", "q6"}
    assert ground.name.startswith(f"{folder}/dev")
