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
from stillhouse.versions import MISSING, SENT_ALONG, differences

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
                timeout=900,
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


def test_no_cluster_is_one_line_whatever_cluster_other_commands_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:10")
    with pytest.raises(ClusterError, match=rf"^{NOWHERE}: no Ray dashboard answers; [^\n]+$"):
        cluster.jobs(NOWHERE)


def test_what_lies_in_the_folder_of_the_package_stays_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "stillhouse"
    for name in ("cluster.py", "py.typed", "cli/job.py", ".env", "hub.pem", "token.json", ".venv/x.py", ".git/x.py"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("PLANTED")
    monkeypatch.setattr(cluster, "__file__", str(source / "cluster.py"))
    with cluster.packed("demo", []) as (_, package, _):
        carried = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert {name for name in carried if not name.startswith("shipped/")} == {"cluster.py", "py.typed", "cli/job.py"}


def test_differences_name_the_node_and_what_it_has() -> None:
    here = {"Python": "3.11.7", "ray": "2.60.0", "torch": "2.13.0+cpu", "transformers": "5.23.0", "stillhouse": "0.1.0"}

    def node(name: str, **changes: str) -> dict[str, object]:
        return {"name": name, "versions": here | changes}

    gpu = node("worker 10.0.0.2", torch="2.13.0+cu130", stillhouse=SENT_ALONG)
    assert differences([node("head 10.0.0.1"), gpu], here) == []
    found = differences([node("head 10.0.0.1", Python="3.12.1"), gpu, node("worker 10.0.0.3", torch=MISSING)], here)
    assert [(one.text, one.breaks) for one in found] == [
        ("worker 10.0.0.2 has Python 3.11.7, the head 3.12.1", True),
        ("worker 10.0.0.3 has Python 3.11.7, the head 3.12.1", True),
        ("worker 10.0.0.3 has no torch", True),
        ("the head has Python 3.12.1, this machine 3.11.7", False),
    ]
    silent = {"name": "worker 10.0.0.4", "versions": {}, "error": "timed out"}
    (one,) = differences([node("head 10.0.0.1"), silent], here)
    assert (one.text, one.breaks) == ("worker 10.0.0.4 does not answer: timed out", True)


def test_the_workspace_of_a_job_is_where_all_nodes_see_it() -> None:
    def home(*overrides: str) -> str | None:
        return cluster.workspace_env(load_recipe("demo", overrides)).get("env_vars", {}).get("STILLHOUSE_HOME")

    assert home("store.path=/shared/scores", "output.path=/shared/runs/a") == "/shared/.stillhouse"
    assert home("store.path=s3://bucket/scores", "output.path=/shared/runs/a") == "/shared/runs/a/.stillhouse"
    # Relative paths go with the job's folder, and so does this one.
    assert home() is None
