"""Search over recipes: what is drawn (`space`, `check`), how one trial runs (`trial`), how a study goes on (`study`).

Only `study` and what it imports need Ray and Optuna.
"""

from stillhouse.search.check import check_space
from stillhouse.search.space import SearchSpace, draw, load_space, make_space

__all__ = ["SearchSpace", "check_space", "draw", "load_space", "make_space"]
