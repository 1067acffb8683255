from __future__ import annotations

import pytest

from stillhouse.comparison.axes import Axis, labels, log_ticks, ticks, widened


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.28, 0.36, [0.28, 0.3, 0.32, 0.34, 0.36]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
        (3, 3, [3]),
        (0, 12_000, [0, 2500, 5000, 7500, 10_000]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == expected


def test_log_ticks() -> None:
    assert log_ticks(1.5, 120) == pytest.approx([2, 5, 10, 20, 50, 100])
    assert log_ticks(0.5, 50_000) == pytest.approx([1, 10, 100, 1000, 10_000])


def test_labels_share_their_decimals() -> None:
    assert labels([0.3, 0.32]) == ["0.30", "0.32"]
    assert labels([0, 20]) == ["0", "20"]


def test_places() -> None:
    assert Axis(0, 10, 100, 200).place(2.5) == 125
    # Upwards: the larger value is nearer to the top of the page.
    assert Axis(0, 10, 200, 100).place(2.5) == 175
    assert Axis(1, 100, 0, 50, log=True).place(10) == pytest.approx(25)
    assert Axis(3, 3, 0, 50).place(3) == 25


def test_a_range_is_never_empty() -> None:
    for low, high in ((0, 0), (2, 2), (-1, -1), (0, 1)):
        wide = widened(low, high)
        assert wide[0] < low <= high < wide[1]
