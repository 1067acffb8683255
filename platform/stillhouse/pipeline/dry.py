"""Everything that a recipe names, resolved without reading data, downloading weights or starting Ray."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from stillhouse.collection import known_reference
from stillhouse.errors import RecipeError
from stillhouse.evaluation.measures import parse_measures
from stillhouse.losses import LOSSES
from stillhouse.pipeline.check import check_stages_of, searched_space
from stillhouse.rankers import RANKERS
from stillhouse.recipe import Recipe, override
from stillhouse.recipe.endpoint import EndpointTeacher
from stillhouse.recipe.rankers import RankerSpec
from stillhouse.recipe.tree import ScoresTeacher, StageSpec

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def dry_run(recipe: Recipe) -> list[tuple[str, str]]:
    """(what, found) for every name in a recipe and its baselines; RecipeError or CollectionError where one is wrong."""
    parse_measures(recipe.evaluation.measures)
    check_stages_of(recipe)
    found = [(f"collection.{split}", _reference(recipe, split)) for split in ("train", "dev", "test")]
    source = recipe.candidates.source
    found.append(("candidates", source if source in ("bm25", "scoreddocs") else f"run file {source}"))
    for name, teacher in recipe.teachers.items():
        if isinstance(teacher, ScoresTeacher):
            found.append((f"teachers.{name}", f"{teacher.scale} scores from {teacher.scores}"))
        elif isinstance(teacher, EndpointTeacher):
            found.append((f"teachers.{name}", f"logit scores of {teacher.model} at {teacher.endpoint}"))
        else:
            found.append((f"teachers.{name}", _ranker(f"teachers.{name}", teacher)))
            found += _stages(f"teachers.{name}.stages", teacher.stages, frozenset())
    for name, one in {
        "": recipe,
        **{name: override(recipe, changes) for name, changes in recipe.baselines.items()},
    }.items():
        place = f"baselines.{name}." if name else ""
        scales = frozenset(
            spec.scale if isinstance(spec, ScoresTeacher) else "logit" for spec in one.teaching().values()
        )
        found.append((f"{place}student", _ranker(f"{place}student", one.student)))
        found += _stages(f"{place}stages", one.stages, scales)
    if recipe.search is not None:
        space, _ = searched_space(recipe)
        found.append(("search", f"{recipe.search.space}, {space.trials} trials over {', '.join(space.space)}"))
    return found


def _reference(recipe: Recipe, split: str) -> str:
    ref = str(getattr(recipe.collection, split))
    return f"{ref}: {known_reference(ref)}"


def _ranker(place: str, spec: RankerSpec) -> str:
    kind, backbone = RANKERS[spec.ranker], spec.backbone
    folder = Path(backbone).expanduser()
    if backbone == "minilm" or folder.is_dir():
        where = "here"
    elif _HUB_NAME.fullmatch(backbone):
        where = "a name on the hub, not looked up"
    else:
        raise RecipeError(f"{place}.backbone: {backbone!r} is no folder and no hub name; give a folder or a hub name")
    return f"{kind.__name__} on {backbone} ({where})"


def _stages(place: str, stages: dict[str, StageSpec], scales: frozenset[str]) -> Iterator[tuple[str, str]]:
    for name, stage in stages.items():
        losses = [stage.loss, *stage.extra_losses.values()]
        for loss in losses:
            for scale in scales if loss.name in LOSSES else ():
                LOSSES[loss.name].check_scale(scale)
        rate = f"learning rate {stage.optimizer.learning_rate:g}"
        yield f"{place}.{name}", f"{' + '.join(loss.name for loss in losses)}, {stage.groups.strategy}, {rate}"
