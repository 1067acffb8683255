"""Every recipe that docs/teachers.md shows is one; every preset stands there."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path
from typing import Any

import pytest

from stillhouse.errors import RecipeError
from stillhouse.recipe import make_recipe
from stillhouse.recipe.endpoint import EndpointTeacher
from stillhouse.recipe.presets import PRESETS
from stillhouse.recipe.text import parse_yaml

PAGE = (Path(__file__).parents[3] / "docs" / "teachers.md").read_text()
SNIPPETS = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)


def recipe_of(teachers: dict[str, Any]) -> Any:
    return make_recipe(
        {
            "name": "page",
            "output": {"path": "out"},
            "collection": dict.fromkeys(("train", "dev", "test"), "stillhouse/pydocs"),
            "teachers": teachers,
            "student": {"ranker": "dual_encoder", "backbone": "minilm"},
            "stages": {"train": {"loss": {"name": "kl"}}},
        }
    )


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippets_are_recipes(snippet: str) -> None:
    teachers = parse_yaml(snippet, "page")["teachers"]
    recipe = recipe_of(teachers)
    assert recipe.teachers.keys() == teachers.keys()
    assert recipe_of(recipe.model_dump(mode="json")["teachers"]) == recipe


def test_the_page_shows_each_kind() -> None:
    recipes = [recipe_of(parse_yaml(snippet, "page")["teachers"]) for snippet in SNIPPETS]
    kinds = {type(teacher).__name__ for recipe in recipes for teacher in recipe.teachers.values()}
    assert kinds == {"CrossEncoderTeacher", "CausalLmTeacher", "ScoresTeacher", "EndpointTeacher"}


def test_a_preset_is_written_out_and_keys_beside_it_win() -> None:
    teacher = recipe_of(
        {"q": {"preset": "qwen3-reranker-0.6b", "doc_max_length": 99, "instruction": "Find."}}
    ).teachers["q"]
    assert (teacher.ranker, teacher.backbone, teacher.doc_max_length) == ("causal_lm", "Qwen/Qwen3-Reranker-0.6B", 99)
    assert "<Instruct>: Find.\n<Query>: {query}" in teacher.template


def test_an_endpoint_takes_the_prompt_of_a_preset() -> None:
    spec = {"endpoint": "http://here:1/v1", "model": "m", "template": "mxbai-rerank-base-v2"}
    teacher = recipe_of({"e": spec}).teachers["e"]
    assert isinstance(teacher, EndpointTeacher)
    assert (teacher.template.yes_token, teacher.template.no_token) == ("1", "0")
    # Braces in a text are text.
    assert "query: {document}\ndocument: {query} {x}\n" in teacher.template.fill("{document}", "{query} {x}")


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({"preset": "qwen"}, "teachers.t.preset: unknown preset 'qwen'; known: ms-marco-minilm-l6, "),
        ({"preset": "bge-reranker-base", "ranker": "causal_lm"}, "teachers.t: preset says what ranker it is"),
        ({"preset": "bge-reranker-base", "instruction": "x"}, "teachers.t.instruction: bge-reranker-base reads none"),
        ({"endpoint": "http://h/v1", "model": "m", "template": "qwen3-reranker-4b", "modle": 1}, "did you mean model"),
    ],
)
def test_mistakes_are_told_in_one_line(teacher: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        recipe_of({"t": teacher})


def test_the_table_names_every_preset() -> None:
    cells = re.findall(r"^\| (`.*?) \|", PAGE, flags=re.MULTILINE)
    patterns: list[str] = []
    for name in re.findall(r"`([^`]+)`", " ".join(cells)):
        first, *others = name.split("/")
        patterns += [first, *(f"bge-reranker-{other}" for other in others)]
    assert [name for name in PRESETS if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)] == []
    assert [one for one in patterns if not fnmatch.filter(PRESETS, one)] == []
