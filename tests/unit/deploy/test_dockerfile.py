"""deploy/Dockerfile: what can be read from it. No image is built by a test."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "deploy" / "Dockerfile").read_text()
LINES = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n", " ", TEXT).splitlines()
    if line.strip() and not line.startswith("#")
]
IGNORED = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()


def test_two_stages_on_one_pinned_base() -> None:
    bases = [rest.split()[0] for word, rest in LINES if word == "FROM"]
    assert bases == [f"rayproject/ray:{version('ray')}-py311"] * 2


def test_torch_is_an_argument_with_the_tested_version() -> None:
    (torch,) = [rest for word, rest in LINES if word == "ARG"]
    constraints = (ROOT / "constraints.txt").read_text()
    assert torch == f'TORCH="torch=={re.search(r"^torch==(.*)$", constraints, re.MULTILINE)[1]}"'  # type: ignore[index]
    installs = [rest for word, rest in LINES if word == "RUN" and "pip install" in rest]
    assert "${TORCH}" in installs[0]
    assert "-c /home/ray/constraints.txt" in installs[1]
    assert all("--no-cache-dir" in line for line in installs)


def test_it_does_not_run_as_root() -> None:
    users = [rest for word, rest in LINES if word == "USER"]
    assert users[-1].isdigit()
    assert int(users[-1]) > 0
    assert "sudo" not in TEXT


def test_only_what_is_named_is_copied_and_it_is_there() -> None:
    copies = [rest.split() for word, rest in LINES if word in ("COPY", "ADD")]
    local = [
        name
        for words in copies
        if not any(word.startswith("--from") for word in words)
        for name in [word for word in words if not word.startswith("--")][:-1]
    ]
    assert all((ROOT / name).exists() for name in local)
    assert IGNORED[IGNORED.index("*")] == "*"
    assert {line[1:] for line in IGNORED if line.startswith("!")} == set(local)
    assert {"**/.env*", "**/*.pem", "**/*.key"} <= set(IGNORED[IGNORED.index("*") + 1 :])


def test_no_secret_is_an_argument_or_a_variable() -> None:
    for word, rest in LINES:
        if word in ("ARG", "ENV", "LABEL"):
            assert not re.search(r"token|secret|password|key", rest, re.IGNORECASE)
