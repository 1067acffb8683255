"""`$STILLHOUSE_DATA/NAME` is found through the variable, or beside the checkout."""

from __future__ import annotations

import shutil

import pytest

from stillhouse.collection import local_data, materialise
from stillhouse.errors import CollectionError
from stillhouse.recipe.tree import CollectionSpec


def test_the_variable_names_the_folder(collection_folder, tmp_path, monkeypatch):
    shutil.copytree(collection_folder, tmp_path / "data" / "toy")
    monkeypatch.setenv("STILLHOUSE_DATA", str(tmp_path / "data"))
    spec = CollectionSpec(
        train="$STILLHOUSE_DATA/toy", dev="$STILLHOUSE_DATA/toy/dev", test="$STILLHOUSE_DATA/toy/test"
    )
    plain = CollectionSpec(**dict.fromkeys(("train", "dev", "test"), str(collection_folder)))
    found = materialise(spec, 0, tmp_path)
    assert found.digest == materialise(plain, 0, tmp_path).digest  # where it lies does not count
    assert found.facts["refs"]["dev"] == "$STILLHOUSE_DATA/toy/dev"


def test_beside_the_checkout(collection_folder, tmp_path, monkeypatch):
    monkeypatch.delenv("STILLHOUSE_DATA", raising=False)
    monkeypatch.setattr(local_data, "BESIDE", collection_folder.parent)
    assert local_data.find(f"$STILLHOUSE_DATA/{collection_folder.name}/dev") == collection_folder / "dev"


def test_what_is_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_DATA", str(tmp_path))
    with pytest.raises(
        CollectionError, match=r"^\$STILLHOUSE_DATA/medquad/train: no folder medquad in .*; set "
    ) as caught:
        local_data.find("$STILLHOUSE_DATA/medquad/train")
    assert "\n" not in str(caught.value)
