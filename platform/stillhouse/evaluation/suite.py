"""A suite: several collections on which rankers are compared together, as one YAML file says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from stillhouse.errors import RecipeError
from stillhouse.evaluation.measures import parse_measures
from stillhouse.recipe import find_file
from stillhouse.recipe.base import Spec
from stillhouse.recipe.load import describe
from stillhouse.recipe.text import read_yaml
from stillhouse.recipe.tree import CandidatesSpec

FOLDER = "suites"


class FirstStage(CandidatesSpec):
    """As in a recipe; a run may begin with `$STILLHOUSE_DATA/`."""

    depth: Annotated[int, Field(ge=1)] = 100
    """Candidates per query, all of them re-ranked."""


class SuiteCollection(Spec):
    """One collection of a suite; a string is one with only `collection`."""

    collection: str
    """ir_datasets id, or a folder with corpus, queries and qrels files; it may begin with `$STILLHOUSE_DATA/`."""
    name: str | None = None
    """In tables and file names; None: the reference, of a path its last part."""
    group: str | None = None
    """Collections of one group count as one in the average, as the forums of CQADupStack do in BEIR's."""
    split: str = "test"
    """Of a folder; an ir_datasets id names its own."""
    relevance: Annotated[int, Field(ge=1)] | None = None
    """Relevant from this grade on; None: what is known of the collection (TREC DL passages: 2), else 1."""
    candidates: FirstStage | None = None
    """None: those of the suite."""

    @property
    def title(self) -> str:
        """What the collection is called."""
        if self.name or not self.collection.startswith(("/", ".", "~")):
            return self.name or self.collection.removeprefix("$STILLHOUSE_DATA/")
        return Path(self.collection).name

    @property
    def file_name(self) -> str:
        """The title as a part of a file's name."""
        return re.sub(r"[^\w.-]+", "-", self.title)


def _reference_alone(value: Any) -> Any:
    return {"collection": value} if isinstance(value, str) else value


class Suite(Spec):
    """Collections, the measures that are averaged over them, and what is re-ranked."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    measures: Annotated[tuple[str, ...], Field(min_length=1)] = ("nDCG@10",)
    """ir_measures names; the first is tested. The level of relevance is the collection's where a name gives none."""
    candidates: FirstStage = FirstStage()
    collections: Annotated[
        tuple[
            Annotated[SuiteCollection, BeforeValidator(_reference_alone, json_schema_input_type=SuiteCollection | str)],
            ...,
        ],
        Field(min_length=1),
    ]

    @model_validator(mode="after")
    def _names_differ(self) -> Suite:
        names = [one.file_name for one in self.collections]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two collections are called {name}; give one another `name`")
        return self


def load_suite(name: str | Path) -> Suite:
    """Read a suite by path or shipped name. Raises RecipeError with one line."""
    path = find_file(str(name), FOLDER)
    return make_suite(read_yaml(path), str(path))


def make_suite(tree: Any, place: str = "suite") -> Suite:
    """A checked suite from plain data."""
    if not isinstance(tree, dict):
        raise RecipeError(f"{place}: expected a mapping of keys, found {type(tree).__name__}")
    try:
        suite = Suite.model_validate_json(json.dumps(tree))
        parse_measures(suite.measures)
    except ValidationError as error:
        raise RecipeError(f"{place}: {describe(error, tree, Suite)}") from None
    except (RecipeError, TypeError, ValueError) as error:
        raise RecipeError(f"{place}: {error}") from None
    return suite


def with_depth(suite: Suite, depth: int) -> Suite:
    """The same suite with another number of candidates everywhere."""
    change = {"depth": depth}
    collections = tuple(
        one.model_copy(update={"candidates": one.candidates.model_copy(update=change)}) if one.candidates else one
        for one in suite.collections
    )
    return suite.model_copy(
        update={"candidates": suite.candidates.model_copy(update=change), "collections": collections}
    )
