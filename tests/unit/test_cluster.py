"""What a job takes along to a cluster, and what it says when there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stillhouse import cluster
from stillhouse.errors import ClusterError, RecipeError
from stillhouse.recipe import find_file, load_recipe

NOWHERE = "http://127.0.0.1:9"


def test_a_job_carries_recipe_space_and_package_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("SECRET=1")
    Path("mine.yaml").write_text(find_file("demo", "jobs/recipes").read_text())
    Path("spaces").mkdir()
    Path("spaces/mine.yaml").write_text(find_file("temperature_negatives_lr", "search_spaces").read_text())
    with cluster.packed("mine.yaml", ["search.space=spaces/mine.yaml"]) as (files, package, arguments):
        # The space has the recipe's name, so it gets another.
        assert {path.name for path in files.iterdir()} == {"mine.yaml", "space-mine.yaml"}
        assert arguments == ["mine.yaml", "--set=search.space=spaces/mine.yaml", "--set=search.space=space-mine.yaml"]
        assert package.name == "stillhouse"
        assert (package / "shipped" / "recipes" / "demo.yaml").is_file()
        found = {path.suffix for path in package.rglob("*") if path.is_file()}
        assert found <= {".py", ".typed", ".yaml", ".j2"}
        # Where it arrives, the copy alone is enough to read the recipe, and the shipped one too.
        code = "from stillhouse.recipe import load_recipe as load; print(load('{}').search.space)"
        for name, overrides in (("mine.yaml", "space-mine.yaml"), ("demo", "temperature_negatives_lr")):
            done = subprocess.run(
                [sys.executable, "-c", code.format(name).replace("')", f"', ['search.space={overrides}'])")],
                cwd=files,
                env=os.environ | {"PYTHONPATH": str(package.parent)},
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
            assert done.stdout.strip() == overrides
    assert not files.exists()


def test_tune_takes_the_space_of_its_option() -> None:
    with cluster.packed("demo", ["seed=1"], "smoke") as (files, _, arguments):
        assert {path.name for path in files.iterdir()} == {"demo.yaml", "smoke.yaml"}
        assert arguments == ["demo.yaml", "--set=seed=1", "--space=smoke.yaml"]


def test_paths_that_mean_another_place_are_named() -> None:
    assert cluster.relative_paths(load_recipe("demo")) == ["output.path", "store.path", "tracking.uri"]
    shared = ["output.path=/shared/demo", "store.path=/shared/scores", "tracking.uri=sqlite:////shared/mlflow.db"]
    assert cluster.relative_paths(load_recipe("demo", shared)) == []
    assert cluster.relative_paths(load_recipe("demo", [*shared[:2], "tracking.uri=http://head:5000"])) == []


def test_a_typo_is_told_before_anything_is_sent() -> None:
    with pytest.raises(RecipeError, match="did you mean seed"):
        cluster.submit("run", "demo", ["sed=1"], [], NOWHERE, None)
    with pytest.raises(ClusterError, match="expected one of run, score, train, tune, evaluate"):
        cluster.submit("delete", "demo", [], [], NOWHERE, None)


def test_no_cluster_is_one_line() -> None:
    with pytest.raises(ClusterError, match=rf"^{NOWHERE}: no Ray dashboard answers; [^\n]+$"):
        cluster.jobs(NOWHERE)
