"""The shape of the code, read from its syntax: where libraries live, which way imports go, how long things are."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "platform" / "stillhouse"
FILES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [*FILES, *sorted((ROOT / "jobs").glob("*.py"))]

# Library -> the only places that may import it. A shorter name covers what is below it (`ray` covers `ray.data`).
HOMES = {
    "ray.data": {"spread.py", "scores/pipeline.py"},
    "ray.train": {"training/worker.py"},
    # The callback that hands a nested trainer's reports to its trial belongs to the trainer.
    "ray.tune": {"search", "training/worker.py"},
    "ray": {
        "spread.py",
        "scores",
        "candidates",
        "evaluation",
        "training/worker.py",
        "search",
        "pipeline",
        "cluster.py",
        "versions.py",
    },
    "optuna": {"search"},
    "pyarrow.fs": {"scores/remote.py"},
    "fsspec": {"scores/remote.py"},
    "mlflow": {"tracking"},
    "ir_datasets": {"collection"},
    "bm25s": {"candidates"},
    "Stemmer": {"candidates"},
    "torch": {"rankers", "losses", "training", "scores", "evaluation", "pipeline", "cli/checks.py"},
    "transformers": {"rankers"},
    "peft": {"rankers/lora.py"},
    "openai": {"scores/client.py"},
    "faiss": {"evaluation/ann.py"},
    "huggingface_hub": {"rankers"},
    "sentence_transformers": set(),
    "ir_measures": {"evaluation"},
    "scipy": {"evaluation"},
    "jinja2": {"comparison"},
    "typer": {"cli"},
    "pickle": set(),
}

# A module imports from lower floors and from its own package only.
FLOORS = {
    "errors": 0,
    "environment": 0,
    "markdown": 0,
    "artifacts": 0,
    "records": 0,
    "progress": 0,
    "spread": 0,
    "versions": 0,
    "recipe": 1,
    "mapped": 1,
    "tracking": 2,
    "collection": 2,
    "rankers": 3,
    "losses": 2,
    "candidates": 3,
    "evaluation": 4,
    "scores": 5,
    "training": 5,
    "imports": 6,
    "search": 6,
    "comparison": 6,
    "study_report": 7,
    "pipeline": 8,
    "cluster": 8,
    "reproduction": 9,
    "cli": 10,
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that the code imports when it runs, also inside functions; `from a import b` gives `a` and `a.b`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write the full name of the module"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node)


def covers(library: str, module: str) -> bool:
    return module == library or module.startswith(library + ".")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_heavy_libraries_stay_at_home(path: Path) -> None:
    place = path.relative_to(PACKAGE).as_posix()
    for module in imports(ast.parse(path.read_text())):
        for library, homes in HOMES.items():
            if covers(library, module):
                assert place in homes or place.partition("/")[0] in homes, f"{module} has its home in {sorted(homes)}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_down(path: Path) -> None:
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if own in ("__init__", "__main__"):
        return
    for module in imports(ast.parse(path.read_text())):
        if not covers("stillhouse", module):
            continue
        other = [*module.split("."), ""][1]
        if other in FLOORS and other != own:
            assert FLOORS[other] < FLOORS[own], f"{own} stands on floor {FLOORS[own]}, {other} on {FLOORS[other]}"


def test_every_module_has_a_floor() -> None:
    found = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in FILES} - {"__init__", "__main__"}
    assert found <= set(FLOORS)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) < 330
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name}, line {node.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_file_says_what_it_is(path: Path) -> None:
    assert path.stem not in ("utils", "util", "helpers", "misc", "common")
    assert ast.get_docstring(ast.parse(path.read_text())), "a module docstring says what the file is"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_plain_text(path: Path) -> None:
    assert path.read_text(encoding="utf-8").isascii()


def test_platform_is_only_a_source_root() -> None:
    # A module there would shadow the standard library's `platform`: `import torch` then fails.
    assert not list((ROOT / "platform").glob("*.py"))
    command = "import platform; print(platform.system())"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == sys.modules["platform"].system()


def test_the_scan_sees_imports_wherever_they_stand() -> None:
    code = """
import ray.data as rd
def f():
    from ray import tune
    if TYPE_CHECKING:
        import torch
if TYPE_CHECKING:
    import mlflow
"""
    assert list(imports(ast.parse(code))) == ["ray.data", "ray", "ray.tune"]
    assert covers("ray.data", "ray.data")
    assert not covers("ray", "rays")
