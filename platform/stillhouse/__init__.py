"""stillhouse: distil neural rankers on a Ray cluster."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stillhouse.rankers import load_ranker as load_ranker
    from stillhouse.recipe import Recipe as Recipe

__version__ = "0.1.0"
__all__ = ["Recipe", "__version__", "load_ranker"]

_HOMES = {"Recipe": "stillhouse.recipe", "load_ranker": "stillhouse.rankers"}


def __getattr__(name: str) -> Any:
    # Late, so that `import stillhouse` loads neither torch nor Ray.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'stillhouse' has no attribute {name!r}")
