"""Where a run's result comes from: data, scores, code and papers, as tags and datasets of its record."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

from stillhouse.losses import LOSSES
from stillhouse.pipeline.context import Context
from stillhouse.pipeline.models import TeacherFile
from stillhouse.recipe import Recipe
from stillhouse.search.recorder import About
from stillhouse.tracking import Dataset

COLLECTION = "stillhouse.collection"
CANDIDATES = "stillhouse.candidates"
STORES = "stillhouse.stores"


def about(context: Context, teacher: TeacherFile | None) -> About:
    """What the record says of each training on this data and these scores."""
    return About(partial(_tags, data_tags(context) | teacher_tags(teacher) | code_tags()), datasets(context))


def data_tags(context: Context) -> dict[str, str]:
    """Digests of what trainings read: the collection, and the candidates of train and dev."""
    keys = [context.candidates(split).key for split in ("train", "dev")]
    return {COLLECTION: context.collection.digest, CANDIDATES: "-".join(keys)}


def teacher_tags(teacher: TeacherFile | None) -> dict[str, str]:
    """Keys of the score stores."""
    return {STORES: ", ".join(teacher.stores) if teacher else "none"}


def loss_tags(recipe: Recipe) -> dict[str, str]:
    """The losses of the student's stages, and the papers that describe them."""
    stages = recipe.stages.values()
    names = dict.fromkeys(loss.name for stage in stages for loss in (stage.loss, *stage.extra_losses.values()))
    papers = dict.fromkeys(LOSSES[name].paper for name in names)
    return {"stillhouse.loss": ", ".join(names), "stillhouse.paper": "; ".join(papers)}


def code_tags() -> dict[str, str]:
    """The commit of the checkout this package lies in, and whether it was changed since; empty outside of one."""
    commit, changed = git("rev-parse", "HEAD").strip(), "true" if changes() else "false"
    return {"mlflow.source.git.commit": commit, "stillhouse.git.dirty": changed} if commit else {}


def changes() -> str:
    """What differs from the commit in the files that git knows, as a patch."""
    return git("diff", "HEAD")


def datasets(context: Context) -> Sequence[Dataset]:
    """The splits by the names that the recipe gives them; the collection's digest with the split names each."""
    collection, spec = context.collection, context.recipe.collection
    named = {"train": spec.train, "dev": spec.dev, "test": spec.test}
    return [
        Dataset(
            named[name],
            f"{collection.digest}-{name}",
            name,
            {
                "queries": len(split.queries),
                "judgements": sum(len(grades) for grades in split.qrels.values()),
                "documents": len(collection.docs),
                "collection_digest": collection.digest,
                "candidates": context.recipe.candidates.source,
            },
        )
        for name, split in collection.splits.items()
    ]


@cache
def git(*arguments: str) -> str:
    """Output of git in the checkout this package lies in; empty where there is none.

    Asked once: the code that runs is that of the start, whatever is committed in the hours of a run.
    """
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _tags(shared: dict[str, str], recipe: Recipe) -> dict[str, str]:
    return shared | loss_tags(recipe)
