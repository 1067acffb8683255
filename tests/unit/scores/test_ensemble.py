"""The mean of teachers, and what has none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stillhouse.errors import StoreError
from stillhouse.scores.ensemble import Ensemble

Make = Callable[..., Any]


def test_mean_of_three_and_nan_where_one_has_nothing(tmp_path: Path, filled: Make, look: Make) -> None:
    stores = [
        filled(tmp_path, pairs, identity={"weights": str(number)})
        for number, pairs in enumerate(
            [
                [("q", "a", 1.0), ("q", "b", 8.0)],
                [("q", "a", 2.5), ("q", "b", -2.0)],
                [("q", "a", -0.5)],
            ]
        )
    ]
    # (1 + 2.5 - 0.5) / 3 = 1; b is unknown to the third.
    np.testing.assert_array_equal(look(Ensemble(stores), [("q", "a"), ("q", "b")]), [1.0, np.nan])
    np.testing.assert_array_equal(look(Ensemble(stores[:2]), [("q", "b"), ("q", "c")]), [3.0, np.nan])


def test_the_order_of_the_stores_changes_nothing(tmp_path: Path, filled: Make) -> None:
    one, two = (filled(tmp_path, [("q", "a", 0.1)], identity={"weights": name}) for name in "xy")
    assert Ensemble([one, two]).key == Ensemble([two, one]).key != one.key
    assert Ensemble([one, two]).digest() == Ensemble([two, one]).digest()
    assert Ensemble([one]).key == one.key


def test_scales_do_not_mix(tmp_path: Path, filled: Make) -> None:
    logit = filled(tmp_path, [("q", "a", 1.0)])
    grade = filled(tmp_path, [("q", "a", 1.0)], identity={"scale": "grade"})
    orders = [filled(tmp_path, [("q", "a", 1.0)], identity={"scale": "order", "n": n}) for n in range(2)]
    with pytest.raises(StoreError, match="differ in scale"):
        Ensemble([logit, grade])
    with pytest.raises(StoreError, match="order have no mean"):
        Ensemble(orders)
    with pytest.raises(StoreError, match="stands twice"):
        Ensemble([logit, logit])
    with pytest.raises(StoreError, match="no store"):
        Ensemble([])
    assert Ensemble(orders[:1]).scale == "order"
