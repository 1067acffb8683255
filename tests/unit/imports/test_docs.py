"""docs/imports.md knows every format, and its commands are ones."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import yaml

from stillhouse.cli.import_ import Name
from stillhouse.imports import FORMATS
from stillhouse.recipe.tree import CandidatesSpec

PAGE = (Path(__file__).parents[3] / "docs" / "imports.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line for language, block in BLOCKS if not language for line in block.splitlines()]


def test_every_format_has_a_row_and_a_choice() -> None:
    assert list(get_args(Name)) == list(FORMATS)
    assert re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE) == list(FORMATS)
    for name, form in FORMATS.items():
        (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |")]
        becomes = row.split("|")[4]
        assert ("collection" in becomes, "triples" in becomes, "scores" in becomes) == (
            form.texts,
            form.triples,
            bool(form.scales),
        )
        assert not form.scales or f"`{form.scales[0]}`" in becomes


def test_keys_of_a_recipe_are_ones() -> None:
    (block,) = [block for language, block in BLOCKS if language == "yaml"]
    CandidatesSpec(**yaml.safe_load(block)["candidates"])


def test_commands_fail_for_their_files_only(call: Callable[..., Any], tmp_path: Path) -> None:
    for line in COMMANDS:
        words = shlex.split(line)
        assert words[:2] == ["stillhouse", "import"]
        ref = words.index("--collection") if "--collection" in words else None
        if ref:  # a collection is opened before the files are
            words[ref : ref + 2] = ["--allow-missing"]
        words[words.index("-o") + 1] = str(tmp_path / "made")
        done = call(*words[1:])
        assert done.status == 1
        assert done.err.endswith(": no such file\n")
