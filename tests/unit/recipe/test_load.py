"""Recipes from files: every mistake is one line that names file, key and what was expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from stillhouse.errors import RecipeError
from stillhouse.recipe import (
    Recipe,
    find_file,
    get_key,
    load_recipe,
    make_recipe,
    override,
    parse_overrides,
    shipped_files,
)
from stillhouse.recipe.text import parse_yaml, to_yaml

SHIPPED = [path.stem for path in shipped_files("jobs/recipes")]

SMALL = """\
name: small
output: {path: runs/small}
collection: {train: c/train, dev: c/dev, test: c/test}
teachers:
  base: {ranker: cross_encoder, backbone: minilm, stages: {label: {loss: {name: contrastive}}}}
student: {ranker: dual_encoder, backbone: minilm, num_layers: 3}
stages:
  distill:
    loss: {name: kl, temperature: 2.0}
    optimizer: {learning_rate: 1e-6}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def mistake(folder: Path, text: str) -> str:
    """The error line of a recipe text."""
    path = write(folder, text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    line = str(caught.value)
    assert line.startswith(str(path)), "names the file"
    assert "\n" not in line
    return line.removeprefix(str(path))


def test_a_number_without_a_dot_is_a_number(tmp_path: Path) -> None:
    # yaml.safe_load gives the string "1e-6".
    assert load_recipe(write(tmp_path, SMALL)).stages["distill"].optimizer.learning_rate == 1e-6


@pytest.mark.parametrize("text", ["1e-6", "1E-6", "+1e-06", "1.0e-6", "0.000001", "10e-7"])
def test_all_spellings_of_a_float(text: str) -> None:
    assert parse_yaml(text, "here") == pytest.approx(1e-6, rel=1e-12)


def test_words_that_look_like_numbers_stay_words() -> None:
    assert parse_yaml("[e5, 1e, bert-e5-3, 1e-6a]", "here") == ["e5", "1e", "bert-e5-3", "1e-6a"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("temperature: 2.0", "temprature: 2.0"), ["stages.distill.loss.temprature", "did you mean temperature?"]),
        (("temperature: 2.0", "temperature: -1"), ["stages.distill.loss.temperature", "greater than 0", "-1"]),
        (("temperature: 2.0", "temperature: warm"), ["stages.distill.loss.temperature", "valid number", "'warm'"]),
        (("temperature: 2.0", "temperature: .inf"), ["stages.distill.loss.temperature", "finite number"]),
        (("num_layers: 3", "num_layers: 2.5"), ["student.num_layers", "integer", "2.5"]),
        (("num_layers: 3", "num_layers: true"), ["student.num_layers", "integer", "True"]),
        (("num_layers: 3", "num_layers: '3'"), ["student.num_layers", "integer", "'3'"]),
        (("num_layers: 3", "zzz: 3"), ["student.zzz", "unknown key", "known keys:", "num_layers"]),
        (("name: kl", "name: kullback"), ["stages.distill.loss", "name", "'kullback'", "'kl'"]),
        (("ranker: dual_encoder", "ranker: dual"), ["student", "ranker", "'dual'", "'dual_encoder'"]),
        (("ranker: cross_encoder", "ranker: cross"), ["teachers.base", "'cross_encoder'"]),
        (("name: small\n", ""), ["name: missing"]),
        (("name: small", "name: Small Recipe"), ["name:", "pattern", "'Small Recipe'"]),
        (("dev: c/dev, ", ""), ["collection.dev: missing"]),
        (("c/train", "{}"), ["collection.train", "string"]),
        (("stages:\n", "seed: -1\nstages:\n"), ["seed", "greater than or equal to 0", "-1"]),
        (
            ("path: runs/small", "path: s3://bucket/small"),
            ["output.path", "s3://bucket/small is no folder"],
        ),
        (("1e-6", "0"), ["stages.distill.optimizer.learning_rate", "greater than 0"]),
        (("name: small", "name: small\nsmall: 1"), ["small: unknown key"]),
        (("    loss: {name: kl, temperature: 2.0}\n", ""), ["stages.distill.loss: missing"]),
    ],
)
def test_one_line_names_key_and_expectation(tmp_path: Path, change: tuple[str, str], expected: list[str]) -> None:
    assert change[0] in SMALL
    line = mistake(tmp_path, SMALL.replace(*change, 1))
    for part in expected:
        assert part in line


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("evaluation: {measures: [RR@10], select_by: nDCG@10}", ["evaluation", "'nDCG@10'", "RR@10"]),
        ("scale: {num_workers: 2, sharding: none}", ["scale: sharding none", "2 copies", "num_workers to 1"]),
        ("retrain: {sharding: none}", ["retrain: sharding none", "2 copies"]),
        ("scale: {min_workers: 2}", ["scale: min_workers 2 is more than num_workers 1"]),
        ("candidates: {depth: 10}\nx: 1", ["x: unknown key"]),
        ("seed: 1\nseed: 2", ["'seed' stands twice", "line"]),
        ("seed: [1", ["not valid YAML", "line"]),
    ],
)
def test_rules_over_several_keys(tmp_path: Path, more: str, expected: list[str]) -> None:
    line = mistake(tmp_path, SMALL + more + "\n")
    for part in expected:
        assert part in line


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("extra_losses: {loss: {name: kl}}", ["extra_losses.loss", "logged already", "loss_2"]),
        ("extra_losses: {score_range: {name: kl}}", ["extra_losses.score_range", "logged already"]),
        ("extra_losses: {grad_norm: {name: kl}}", ["extra_losses.grad_norm", "logged already"]),
        ("early_stopping: 4", ["early_stopping 4 never acts in 4 evaluations"]),
        ("extra_losses: {a/b: {name: kl}}", ["extra_losses.a/b", "pattern"]),
    ],
)
def test_rules_over_several_keys_of_a_stage(tmp_path: Path, stage: str, expected: list[str]) -> None:
    line = mistake(tmp_path, SMALL.replace("    optimizer", f"    {stage}\n    optimizer"))
    for part in ("stages.distill", *expected):
        assert part in line


def test_a_plateau_needs_evaluations(tmp_path: Path) -> None:
    plateau = SMALL.replace("learning_rate: 1e-6", "schedule: plateau")
    assert "plateau_patience 1 never acts in 1 evaluations" in mistake(tmp_path, plateau + "    evaluations: 1\n")
    assert load_recipe(write(tmp_path, plateau + "    evaluations: 2\n")).stages["distill"].evaluations == 2
    # Another schedule does not read it.
    assert load_recipe(write(tmp_path, SMALL + "    evaluations: 1\n")).stages["distill"].evaluations == 1


def test_groups_cannot_draw_below_the_candidates(tmp_path: Path) -> None:
    text = SMALL.replace("    optimizer", "    groups: {depth: 50}\n    optimizer")
    assert "stages.distill.groups.depth is 50, but candidates.depth gives only 30" in mistake(tmp_path, text)


@pytest.mark.parametrize("key", ["teachers", "stages"])
def test_a_part_that_must_not_be_empty(tmp_path: Path, key: str) -> None:
    tree = yaml.safe_load(SMALL)
    tree["stages"]["distill"]["optimizer"] = {}
    tree[key] = {}
    assert f"{key}: at least one" in mistake(tmp_path, to_yaml(tree))


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n"])
def test_not_a_mapping(tmp_path: Path, text: str) -> None:
    assert "expected a mapping of keys" in mistake(tmp_path, text)


def test_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: caf\xe9\n".encode("latin-1"))
    with pytest.raises(RecipeError, match=r"latin\.yaml: not UTF-8 at byte 9"):
        load_recipe(path)


def test_an_unsafe_tag_builds_nothing(tmp_path: Path) -> None:
    made = tmp_path / "made"
    path = write(tmp_path, f"name: !!python/object/apply:pathlib.Path.touch [!!python/name:x, {made}]\n")
    with pytest.raises(RecipeError, match="not valid YAML"):
        load_recipe(path)
    assert not made.exists()


def test_no_such_file_names_what_is_shipped() -> None:
    with pytest.raises(RecipeError, match=r"nowhere: no such file; shipped in jobs/recipes: .*demo"):
        load_recipe("nowhere")


def test_overrides_are_yaml_and_the_last_wins(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL)
    recipe = load_recipe(
        path,
        [
            "seed=1",
            "seed=2",
            "stages.distill.loss.temperature=4e0",
            "evaluation.measures=[nDCG@10, 'R@30']",
            "student.num_layers=null",
            "search.space=a=b",
        ],
    )
    assert recipe.seed == 2
    assert get_key(recipe, "stages.distill.loss.temperature") == 4.0
    assert recipe.evaluation.measures == ("nDCG@10", "R@30")
    assert recipe.student.num_layers is None
    assert recipe.search is not None
    assert recipe.search.space == "a=b", "only the first = divides"


def test_an_override_replaces_a_whole_node(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SMALL), ["stages.distill.loss={name: margin_mse}"])
    assert recipe.stages["distill"].loss.model_dump() == {"name": "margin_mse", "weight": 1.0, "pair_reduction": "mean"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed", "--set seed: expected dotted.key=value"),
        ("=3", "expected dotted.key=value"),
        ("sed=3", "sed: unknown key; did you mean seed?"),
        ("seed.x=3", "seed.x: seed is a value, it has no keys"),
        ("stages.distil.loss.temperature=3", "stages.distil.loss"),
        ("seed=", "seed"),
        ("seed=[1", "--set seed"),
    ],
)
def test_a_wrong_override_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, SMALL.replace("name: small", "name: small\nseed: 7")), [text])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_override_leaves_the_recipe_as_it_was(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SMALL))
    other = override(recipe, {"seed": 5, "stages.distill.loss.temperature": 8.0})
    assert (recipe.seed, other.seed) == (0, 5)
    assert get_key(recipe, "stages.distill.loss.temperature") == 2.0
    assert get_key(other, "stages.distill.loss.temperature") == 8.0
    with pytest.raises(RecipeError, match=r"recipe small: sed: unknown key"):
        override(recipe, {"sed": 1})
    with pytest.raises(RecipeError, match="no such key"):
        get_key(recipe, "stages.distill.nothing")


def test_a_recipe_is_frozen(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, SMALL))
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 1


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_loads_and_comes_back_from_yaml(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    text = to_yaml(recipe.model_dump(mode="json"))
    assert load_recipe(write(tmp_path, text)) == recipe


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_fit_the_json_schema(name: str) -> None:
    tree: Any = parse_yaml(find_file(name, "jobs/recipes").read_text(), name)
    schema = Recipe.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(tree, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tree | {"sed": 1}, schema)


def test_the_schema_describes_the_keys() -> None:
    schema = Recipe.model_json_schema()
    student = schema["$defs"]["DualEncoderSpec"]["properties"]
    assert student["query_max_length"]["description"].startswith("Cap on a query's own tokens")
    assert schema["properties"]["seed"]["minimum"] == 0


def test_there_is_something_shipped() -> None:
    assert "demo" in SHIPPED


def test_parse_overrides_gives_typed_values() -> None:
    assert parse_overrides(["a.b=1", "c=x", "d=[1, 2]", "e=1e-5", "f=true", "g=null"]) == {
        "a.b": 1,
        "c": "x",
        "d": [1, 2],
        "e": 1e-5,
        "f": True,
        "g": None,
    }


def test_a_recipe_from_plain_data_names_its_place() -> None:
    with pytest.raises(RecipeError, match=r"^cell 3: expected a mapping of keys, found list$"):
        make_recipe([], place="cell 3")
