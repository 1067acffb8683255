from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from stillhouse.errors import CollectionError
from stillhouse.evaluation.significance import compare, gap_closed, holm, with_holm


def _named(values: np.ndarray | list[float]) -> dict[str, float]:
    return {f"q{row}": float(value) for row, value in enumerate(values)}


def test_t_test_and_effect_size_by_hand() -> None:
    a, b = [0.6, 0.8, 0.5, 0.9], [0.5, 0.5, 0.6, 0.4]
    # Differences 0.1 0.3 -0.1 0.5: mean 0.2, variance (0.01 + 0.01 + 0.09 + 0.09) / 3.
    deviation = math.sqrt(0.2 / 3)
    (result,) = compare({"a": _named(a), "b": _named(b)}, [("a", "b")], measure="nDCG@10")
    t = 0.2 / (deviation / 2)
    assert result.difference == pytest.approx(0.2)
    assert result.effect_size == pytest.approx(0.2 / deviation)
    assert result.t == pytest.approx(t)
    # Student's t with 3 degrees of freedom has a closed distribution function.
    x = t / math.sqrt(3)
    assert result.p == pytest.approx(1 - 2 / math.pi * (x / (1 + x * x) + math.atan(x)))
    assert result.p == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert (result.wins, result.ties, result.losses, result.queries) == (3, 0, 1, 4)
    assert (result.mean_a, result.mean_b, result.measure) == (pytest.approx(0.7), pytest.approx(0.5), "nDCG@10")


def test_few_queries_are_randomised_exactly() -> None:
    differences = [0.1, 0.3, -0.1, 0.5, 0.0]
    (result,) = compare({"a": _named(differences), "b": _named([0.0] * 5)}, [("a", "b")])
    means = [abs(np.dot(signs, differences)) for signs in itertools.product((-1, 1), repeat=5)]
    exact = np.mean([mean >= abs(sum(differences)) - 1e-12 for mean in means])
    assert result.fisher_p == pytest.approx(exact)
    assert result.ties == 1


def test_randomisation_agrees_with_the_t_test_on_many_queries() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.normal(0.03, 0.2, 300), np.zeros(300)
    (result,) = compare({"a": _named(a), "b": _named(b)}, [("a", "b")])
    # 10,000 draws have a standard error below 0.005.
    assert result.fisher_p == pytest.approx(result.p, abs=0.01)


def test_holm_by_hand() -> None:
    # Sorted 0.01 0.02 0.03 0.5: times 4 3 2 1 is 0.04 0.06 0.06 0.5; none below the one before.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.7, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_is_over_all_comparisons_shown() -> None:
    generator = np.random.default_rng(0)
    systems = {name: _named(generator.normal(mean, 1, 50)) for name, mean in [("a", 0.9), ("b", 0.4), ("c", 0.0)]}
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    results = compare(systems, pairs)
    assert [result.p_holm for result in results] == pytest.approx(holm([result.p for result in results]))
    again = with_holm([*results, *compare(systems, [("c", "a")])])
    assert again[3].p_holm == pytest.approx(min(1.0, 4 * again[3].p))


def test_bootstrap_interval_covers_at_its_level() -> None:
    covered = 0
    for trial in range(200):
        values = np.random.default_rng(trial).normal(0.1, 0.3, 60)
        systems = {"a": _named(values), "b": _named(np.zeros(60))}
        (result,) = compare(systems, [("a", "b")], resamples=400, seed=trial)
        covered += result.ci_low <= 0.1 <= result.ci_high
    # 95 % of 200 is 190, standard deviation 3.1.
    assert 178 <= covered <= 199


def test_interval_is_near_the_normal_one_and_repeats() -> None:
    values = np.random.default_rng(0).normal(0.1, 0.3, 400)
    systems = {"a": _named(values), "b": _named(np.zeros(400))}
    (result,) = compare(systems, [("a", "b")])
    half = 1.96 * values.std(ddof=1) / 20
    assert result.ci_low == pytest.approx(values.mean() - half, abs=0.003)
    assert result.ci_high == pytest.approx(values.mean() + half, abs=0.003)
    assert compare(systems, [("a", "b")]) == [result]
    (wider,) = compare(systems, [("a", "b")], alpha=0.01)
    assert wider.ci_low < result.ci_low < result.ci_high < wider.ci_high


def test_equal_systems_and_constant_differences() -> None:
    values = _named([0.1, 0.5, 0.9])
    systems = {
        "a": values,
        "b": dict(reversed(values.items())),
        "c": {key: value + 0.25 for key, value in values.items()},
    }
    same, better = compare(systems, [("a", "b"), ("c", "a")])
    assert (same.difference, same.t, same.p, same.fisher_p, same.effect_size) == (0.0, 0.0, 1.0, 1.0, None)
    assert (same.ci_low, same.ci_high) == (0.0, 0.0)
    assert better.difference == pytest.approx(0.25)
    assert better.p < 1e-6


def test_one_query_is_no_evidence() -> None:
    (result,) = compare({"a": {"q": 1.0}, "b": {"q": 0.0}}, [("a", "b")])
    assert (result.p, result.ci_low, result.ci_high) == (1.0, -math.inf, math.inf)


def test_systems_measured_on_other_queries_are_refused() -> None:
    with pytest.raises(CollectionError, match="1 queries have a value in only one of them"):
        compare({"a": {"q1": 1.0, "q2": 0.0}, "b": {"q1": 1.0}}, [("a", "b")])
    with pytest.raises(CollectionError, match="no values of c; known: a"):
        compare({"a": {"q1": 1.0}}, [("a", "c")])


def test_gap_closed_of_a_known_share() -> None:
    generator = np.random.default_rng(0)
    contrastive = generator.uniform(0, 0.5, 500)
    lead = generator.normal(0.2, 0.1, 500)
    result = gap_closed(_named(contrastive + 0.5 * lead), _named(contrastive), _named(contrastive + lead))
    # Distilled closes exactly half on every query, so every resample says 0.5.
    assert result.ratio == pytest.approx(0.5)
    assert (result.ci_low, result.ci_high) == (pytest.approx(0.5), pytest.approx(0.5))
    assert (result.reason, result.queries) == ("", 500)


def test_gap_interval_is_near_the_delta_method() -> None:
    generator = np.random.default_rng(3)
    gain, lead = generator.normal(0.05, 0.2, 1000), generator.normal(0.1, 0.2, 1000)
    result = gap_closed(_named(gain), _named(np.zeros(1000)), _named(lead))
    ratio = gain.mean() / lead.mean()
    error = (gain - ratio * lead).std(ddof=1) / math.sqrt(1000) / lead.mean()
    assert result.ratio == pytest.approx(ratio)
    assert result.ci_low == pytest.approx(ratio - 1.96 * error, abs=0.02)
    assert result.ci_high == pytest.approx(ratio + 1.96 * error, abs=0.02)


def test_gap_without_a_lead_says_why() -> None:
    zero = _named(np.zeros(100))
    noise = np.random.default_rng(0).normal(0, 1, 100)
    noise += 0.05 - noise.mean()
    unclear = gap_closed(_named(noise / 2), zero, _named(noise))
    assert unclear.ratio == pytest.approx(0.5)
    assert (unclear.ci_low, unclear.ci_high) == (None, None)
    assert "not clear of 0" in unclear.reason
    behind = gap_closed(zero, _named(np.ones(100)), zero)
    assert behind.ratio is None
    assert "does not lead" in behind.reason


def test_a_single_query_that_differs_is_no_evidence() -> None:
    (result,) = compare({"a": _named([1.0, 0.5, 0.5]), "b": _named([0.0, 0.5, 0.5])}, [("a", "b")])
    # Both signs of the one difference are equally far from 0.
    assert result.fisher_p == 1.0
