"""Where a search comes from, as parts of its report."""

from __future__ import annotations

import json

from stillhouse.comparison.entrants import Section
from stillhouse.recipe import Recipe
from stillhouse.recipe.text import to_yaml
from stillhouse.search.space import SearchSpace


def search_section(study: str, space: SearchSpace) -> Section:
    """How the search was made, with the whole space."""
    scheduler = space.scheduler
    stops = f"{scheduler.name}, grace {scheduler.grace}, reduction factor {scheduler.reduction_factor:g}"
    facts = {
        "study": study,
        "objective": ", ".join(f"{mode} {name} on dev" for name, mode in zip(space.metrics, space.modes, strict=True)),
        "sampler": f"{space.sampler.name}, seed {space.sampler.seed}",
        "scheduler": scheduler.name if scheduler.name in ("none", "median") else stops,
        "trials asked for": str(space.trials),
        "seeds per trial": str(space.seeds),
        "starting points": str(len(space.start)),
        "warm start": space.warm_start or "none",
    }
    if space.time_budget_s is not None:
        facts["time budget"] = f"{space.time_budget_s:g} s"
    return Section("Search", facts, to_yaml(space.model_dump(mode="json", by_alias=True, exclude_defaults=True)))


def recipe_section(recipe: Recipe) -> Section:
    """The recipe that trials changed."""
    tree = json.loads(recipe.model_dump_json())
    return Section("Recipe of the trials", {"name": recipe.name, "seed": str(recipe.seed)}, to_yaml(tree))
