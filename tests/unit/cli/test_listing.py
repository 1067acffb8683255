"""`stillhouse list` names what is there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import ir_measures
import jsonschema
import pytest

from stillhouse.losses import AUXILIARY, LOSSES
from stillhouse.rankers import RANKERS
from stillhouse.recipe import shipped_files


def names(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines()]


def test_recipes_and_spaces_are_the_files(call: Callable[..., Any]) -> None:
    assert names(call("list", "recipes").out) == [path.stem for path in shipped_files("jobs/recipes")]
    assert names(call("list", "spaces").out) == [path.stem for path in shipped_files("search_spaces")]
    for line in call("list").out.splitlines():
        assert len(line.split()) > 3, "a line about each"


def test_losses_and_rankers_are_those_of_the_library(call: Callable[..., Any]) -> None:
    assert sorted(names(call("list", "losses").out)) == sorted([*LOSSES, *AUXILIARY])
    assert sorted(names(call("list", "rankers").out)) == sorted(RANKERS)
    for line in call("list", "losses").out.splitlines():
        name = line.split()[0]
        assert LOSSES[name].description in line, "what it is"
        assert re.search(r"(19|20)\d\d", line), "and where it is printed"


def test_a_recipe_of_a_paper_names_it(call: Callable[..., Any]) -> None:
    papers = ("hofstatter", "menon", "xu", "pezzuti")
    for line in call("list", "recipes").out.splitlines():
        if line.startswith(papers):
            assert re.search(r"(Hofstaetter|Menon|Xu|Pezzuti) et al\. 20\d\d", line), line


def test_measures_can_be_parsed(call: Callable[..., Any]) -> None:
    found = names(call("list", "measures").out)
    families = {name.partition("(")[0].partition("[")[0] for name in found}
    assert {"nDCG", "RR", "R", "AP"} <= families
    for family in families:
        assert family in ir_measures.measures.registry


@pytest.mark.parametrize("of", ["recipe", "space"])
def test_schemas_are_schemas(of: str, call: Callable[..., Any]) -> None:
    schema = json.loads(call("list", "schema", of).out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
