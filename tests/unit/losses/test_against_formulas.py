"""Every loss against its formula, written out in plain Python for one query's list of documents."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from stillhouse.losses import LOSSES

Answer = tuple[float, float]
SILENT: Answer = (0.0, 0.0)
Scores = list[float]


def softmax(x: Scores, temperature: float = 1.0) -> Scores:
    shifted = [(v - max(x)) / temperature for v in x]
    total = math.fsum(math.exp(v) for v in shifted)
    return [math.exp(v) / total for v in shifted]


def cross_entropy(target: Scores, x: Scores, temperature: float = 1.0) -> float:
    return -math.fsum(p * math.log(q) for p, q in zip(target, softmax(x, temperature), strict=True) if p > 0)


def logistic(margin: float) -> float:
    return math.log(1 + math.exp(-margin))


def split(y: list[int]) -> tuple[list[int], list[int]]:
    return [i for i, grade in enumerate(y) if grade > 0], [i for i, grade in enumerate(y) if grade <= 0]


def label_pairs(y: list[int]) -> list[tuple[int, int]]:
    positives, negatives = split(y)
    return [(i, j) for i in positives for j in negatives]


def mean_or_silent(terms: list[float]) -> Answer:
    return (math.fsum(terms) / len(terms), 1.0) if terms else SILENT


def contrastive(s: Scores, t: Scores, y: list[int], temperature: float = 1.0, label_smoothing: float = 0.0) -> Answer:
    positives, _ = split(y)
    if not positives or len(s) < 2:
        return SILENT
    hard = [1 / len(positives) if grade > 0 else 0.0 for grade in y]
    return cross_entropy([(1 - label_smoothing) * h + label_smoothing / len(s) for h in hard], s, temperature), 1.0


def ranknet(s: Scores, t: Scores, y: list[int]) -> Answer:
    return mean_or_silent([logistic(s[i] - s[j]) for i, j in label_pairs(y)])


def label_mse(s: Scores, t: Scores, y: list[int]) -> Answer:
    return (sum(((grade > 0) - x) ** 2 for x, grade in zip(s, y, strict=True)), 1.0) if s else SILENT


def focal(s: Scores, t: Scores, y: list[int], gamma: float = 2.0) -> Answer:
    positives, _ = split(y)
    if not positives or len(s) < 2:
        return SILENT
    p = softmax(s)
    return sum(-((1 - p[i]) ** gamma) * math.log(p[i]) for i in positives) / len(positives), 1.0


def pointwise_mse(s: Scores, t: Scores, y: list[int], reduction: str = "sum") -> Answer:
    if not s:
        return SILENT
    total = sum((a - b) ** 2 for a, b in zip(s, t, strict=True))
    return (total if reduction == "sum" else total / len(s)), 1.0


def margin_mse(s: Scores, t: Scores, y: list[int], pair_reduction: str = "mean") -> Answer:
    terms = [((s[i] - s[j]) - (t[i] - t[j])) ** 2 for i, j in label_pairs(y)]
    value, weight = mean_or_silent(terms)
    return (value * len(terms) if pair_reduction == "sum" else value), weight


def softmax_ce(
    s: Scores,
    t: Scores,
    y: list[int],
    temperature: float = 1.0,
    teacher_temperature: float | None = None,
    scale_by_temperature_squared: bool = True,
) -> Answer:
    if len(s) < 2:
        return SILENT
    target = softmax(t, teacher_temperature or temperature)
    factor = temperature**2 if scale_by_temperature_squared else 1.0
    return factor * cross_entropy(target, s, temperature), 1.0


def kl(s: Scores, t: Scores, y: list[int], **params: float) -> Answer:
    if len(s) < 2:
        return SILENT
    target = softmax(t, params.get("teacher_temperature") or params.get("temperature", 1.0))
    entropy = -math.fsum(p * math.log(p) for p in target)
    squared = params.get("temperature", 1.0) ** 2 if params.get("scale_by_temperature_squared", True) else 1.0
    return softmax_ce(s, t, y, **params)[0] - squared * entropy, 1.0


def m3se(s: Scores, t: Scores, y: list[int], hinge_power: int = 1) -> Answer:
    positives, negatives = split(y)
    if not negatives or len(s) < 2:
        return SILENT
    top = negatives[0]
    for j in negatives:
        if t[j] > t[top]:
            top = j
    margins = sum(((t[i] - t[top]) - (s[i] - s[top])) ** 2 for i in positives)
    return margins + sum(max(s[j] - s[top], 0.0) ** hinge_power for j in negatives), 1.0


def rankdistil_b(s: Scores, t: Scores, y: list[int], gamma0: float = 0.0, hinge_power: int = 2) -> Answer:
    positives, negatives = split(y)
    match = sum((t[i] - s[i]) ** 2 for i in positives)
    return match + sum(max(s[j] - gamma0, 0.0) ** hinge_power for j in negatives), 1.0 if s else 0.0


def ranknet_margin_weighted(s: Scores, t: Scores, y: list[int]) -> Answer:
    return mean_or_silent([logistic(s[i] - s[j]) * abs(t[i] - t[j]) for i, j in label_pairs(y)])


def ranks(x: Scores) -> list[int]:
    return [1 + sum(other > mine for other in x) for mine in x]


def ordered_pairs(target: Scores) -> list[tuple[int, int]]:
    docs = range(len(target))
    return [(i, j) for i in docs for j in docs if target[i] > target[j]]


def ranknet_order(s: Scores, t: Scores, y: list[int]) -> Answer:
    terms = [logistic(s[i] - s[j]) for i, j in ordered_pairs(t)]
    return mean_or_silent(terms)[0], float(len(terms))


def ranknet_rank_weighted(s: Scores, t: Scores, y: list[int]) -> Answer:
    r = ranks(s)
    terms = [logistic(s[i] - s[j]) / (r[i] + r[j]) for i, j in ordered_pairs(t)]
    return mean_or_silent(terms)[0], float(len(terms))


def mse_ranknet(s: Scores, t: Scores, y: list[int]) -> Answer:
    value, weight = pointwise_mse(s, t, y, reduction="mean")
    return value + ranknet(s, t, y)[0], weight


def listnet(s: Scores, t: Scores, y: list[int]) -> Answer:
    return (cross_entropy(softmax(y), s), 1.0) if split(y)[0] and len(s) > 1 else SILENT


def listmle(s: Scores, t: Scores, y: list[int]) -> Answer:
    if len(s) < 2:
        return SILENT
    along = [s[i] for i in sorted(range(len(s)), key=lambda i: -t[i])]
    return -sum(math.log(softmax(along[k:])[0]) for k in range(len(along))), 1.0


def smooth_ranks(s: Scores, temperature: float) -> Scores:
    docs = range(len(s))
    return [1 + sum(1 / (1 + math.exp((s[i] - s[j]) / temperature)) for j in docs if j != i) for i in docs]


def ideal_dcg(y: list[int]) -> float:
    return sum(max(grade, 0) / math.log2(2 + k) for k, grade in enumerate(sorted(y, reverse=True)))


def approx_ndcg(s: Scores, t: Scores, y: list[int], temperature: float = 1.0) -> Answer:
    if not split(y)[0] or len(s) < 2:
        return SILENT
    dcg = sum(max(grade, 0) / math.log2(1 + r) for r, grade in zip(smooth_ranks(s, temperature), y, strict=True))
    return 1 - dcg / ideal_dcg(y), 1.0


def lambda_rank(s: Scores, t: Scores, y: list[int]) -> Answer:
    """The change of nDCG is measured by swapping the two ranks, not by the closed form."""

    def ndcg(r: list[int]) -> float:
        return sum(grade / math.log2(1 + rank) for grade, rank in zip(y, r, strict=True)) / ideal_dcg(y)

    value, pairs, r = 0.0, ordered_pairs([float(grade) for grade in y]), ranks(s)
    for i, j in pairs:
        swapped = r.copy()
        swapped[i], swapped[j] = r[j], r[i]
        value += abs(ndcg(swapped) - ndcg(r)) * logistic(s[i] - s[j])
    return value, 1.0 if pairs else 0.0


def adr_mse(s: Scores, t: Scores, y: list[int], temperature: float = 1.0) -> Answer:
    if len(s) < 2:
        return SILENT
    smooth = smooth_ranks(s, temperature)
    return sum((r - a) ** 2 / math.log2(1 + r) for r, a in zip(ranks(t), smooth, strict=True)) / len(s), 1.0


FORMULAS: dict[str, Callable[..., Answer]] = {
    f.__name__: f
    for f in (
        *(contrastive, ranknet, label_mse, focal, pointwise_mse, margin_mse, softmax_ce, kl, m3se, rankdistil_b),
        *(ranknet_margin_weighted, ranknet_order, ranknet_rank_weighted, mse_ranknet, listnet, listmle),
        *(approx_ndcg, lambda_rank, adr_mse),
    )
}
CASES = [
    *((name, {}) for name in LOSSES),
    ("contrastive", {"temperature": 0.3, "label_smoothing": 0.2}),
    ("focal", {"gamma": 0.0}),
    ("focal", {"gamma": 0.5}),
    ("pointwise_mse", {"reduction": "mean"}),
    ("margin_mse", {"pair_reduction": "sum"}),
    ("softmax_ce", {"temperature": 4.0}),
    ("softmax_ce", {"temperature": 4.0, "teacher_temperature": 0.5, "scale_by_temperature_squared": False}),
    ("kl", {"temperature": 4.0}),
    ("kl", {"temperature": 4.0, "teacher_temperature": 0.5, "scale_by_temperature_squared": False}),
    ("m3se", {"hinge_power": 2}),
    ("rankdistil_b", {"gamma0": -0.5, "hinge_power": 1}),
    ("approx_ndcg", {"temperature": 0.1}),
    ("adr_mse", {"temperature": 0.1}),
]


@pytest.mark.parametrize("num_docs", [1, 2, 3, 8, 100])
@pytest.mark.parametrize(("name", "params"), CASES)
def test_equals_its_formula(name: str, params: dict, num_docs: int, make_groups: Callable) -> None:
    student, teacher, label, mask = make_groups(12, num_docs, seed=num_docs)
    label[0] = 0  # no positive
    label[1] = 2  # no negative
    expected = []
    for row in range(12):
        keep = mask[row] & ~teacher[row].isnan() if LOSSES[name].needs_teacher else mask[row]
        s, t, y = (x[row][keep].tolist() for x in (student, teacher, label))
        expected.append(FORMULAS[name](s, t, y, **params))

    value_Q, weight_Q = LOSSES[name](student, teacher, label, mask, **params)
    np.testing.assert_allclose(value_Q.numpy(), [value for value, _ in expected], rtol=1e-9, atol=1e-9)
    assert weight_Q.tolist() == [weight for _, weight in expected]

    total = sum(weight for _, weight in expected)
    mean = sum(value * weight for value, weight in expected) / total if total else 0.0
    np.testing.assert_allclose(
        LOSSES[name].mean(student, teacher, label, mask, **params).item(), mean, rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("name", LOSSES)
def test_float32_is_close_to_the_formula(name: str, make_groups: Callable) -> None:
    student, teacher, label, mask = make_groups(6, 20, seed=3, unscored=0.0)
    value_Q, _ = LOSSES[name](student.float(), teacher.float(), label, mask)
    expected = [FORMULAS[name](*(x[q][mask[q]].tolist() for x in (student, teacher, label)))[0] for q in range(6)]
    np.testing.assert_allclose(value_Q.numpy(), expected, rtol=2e-5)
