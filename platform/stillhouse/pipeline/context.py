"""What every step of a run shares: the recipe, where things lie, what to print, and how long each step took."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from stillhouse.errors import RecipeError
from stillhouse.progress import Advance, progress_line
from stillhouse.recipe import Recipe
from stillhouse.recipe.checks import check_folder

if TYPE_CHECKING:
    from stillhouse.candidates import Candidates
    from stillhouse.collection import Collection


def workspace() -> Path:
    """Where everything but results is written: `STILLHOUSE_HOME`, or `.stillhouse` here; RecipeError for a URI."""
    try:
        return Path(check_folder(os.environ.get("STILLHOUSE_HOME", ".stillhouse"))).absolute()
    except ValueError as error:
        raise RecipeError(f"STILLHOUSE_HOME: {error}") from None


@dataclass
class Context:
    """One command's view of a recipe."""

    recipe: Recipe
    console: Console
    verbose: bool = False
    root: Path = field(default_factory=workspace)
    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)
    _ray: bool = False
    _collection: Collection | None = None
    _candidates: dict[str, Candidates] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[Advance]:
        """A timed step with a progress line; yields `advance(done, total, note)`."""
        started = time.perf_counter()
        with progress_line(self.console, name) as advance:
            yield advance
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
        self.console.print(f"[green]done[/] {name} [dim]{self.seconds[name]:.1f} s[/]", highlight=False)

    def note(self, text: str) -> None:
        """One line about what was found."""
        self.console.print(f"     {text}", highlight=False, style="dim")

    @property
    def output(self) -> Path:
        return Path(self.recipe.output.path).absolute()

    @property
    def collection(self) -> Collection:
        """The materialised collection."""
        from stillhouse.collection import materialise

        if self._collection is None:
            spec = self.recipe.collection
            seed = self.recipe.seed if spec.seed is None else spec.seed
            self._collection = materialise(spec, seed, self.root)
        return self._collection

    def ray(self) -> dict[str, float]:
        """Connect to Ray, or start it here, when a step first needs it; returns the cluster's resources."""
        from stillhouse.pipeline.ray_session import connect

        self._ray = True
        return connect(self.verbose)

    def device(self) -> Literal["cpu", "cuda"]:
        """What the scoring actors run on: the cluster's GPUs, or this machine's."""
        if os.environ.get("RAY_ADDRESS"):
            return "cuda" if self.ray().get("GPU", 0) > 0 else "cpu"
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *error: object) -> None:
        if self._ray:
            from stillhouse.pipeline.ray_session import disconnect

            disconnect()

    def candidates(self, split: str) -> Candidates:
        from stillhouse.candidates import candidates_for

        if split not in self._candidates:
            self._candidates[split] = candidates_for(self.recipe.candidates, self.collection, split, self.root)
        return self._candidates[split]
