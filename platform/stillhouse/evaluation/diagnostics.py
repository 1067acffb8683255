"""How a ranker spreads its scores over relevant and other documents (Menon et al., Figures 2 and 5 to 8)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillhouse.evaluation.measures import Qrels
from stillhouse.records import Run


@dataclass(frozen=True)
class ScoreSpread:
    """Scores of one ranker on the documents of a run, split by the qrels."""

    name: str
    positives: np.ndarray
    """Scores s(q, d+) of relevant documents, all queries together."""
    negatives: np.ndarray
    """Scores s(q, d-) of all others, judged or not."""
    margins: np.ndarray
    """(s(q, d+) - s(q, d-)) / score_range for every such pair inside a query: at most 1 in size."""
    score_range: float
    """Largest difference of two scores of one query, over all queries."""
    pairwise_accuracy: float
    """Share of the pairs inside a query that are in the right order; a tie counts half. NaN without pairs."""

    @property
    def offset(self) -> float:
        """Mean of all scores: what a centred picture takes off."""
        both = np.concatenate([self.positives, self.negatives])
        return float(both.mean()) if len(both) else 0.0

    def summary(self) -> dict[str, float]:
        """The numbers worth a curve: means of both kinds, range, median margin, pairwise accuracy."""
        if not len(self.margins):
            return {}
        return {
            "positive_mean": float(self.positives.mean()),
            "negative_mean": float(self.negatives.mean()),
            "score_range": self.score_range,
            "margin_median": float(np.median(self.margins)),
            "pairwise_accuracy": self.pairwise_accuracy,
        }


def score_spread(name: str, run: Run, qrels: Qrels, relevance: int = 1) -> ScoreSpread:
    """Split the scores of a run at grade `relevance`; queries outside the qrels are left out."""
    positives, negatives, differences = [], [], []
    score_range = 0.0
    for query_id, scores in run.items():
        if query_id not in qrels or not scores:
            continue
        grades = qrels[query_id]
        score_K = np.array(list(scores.values()), dtype=np.float64)
        relevant_K = np.array([grades.get(doc_id, 0) >= relevance for doc_id in scores])
        positive, negative = score_K[relevant_K], score_K[~relevant_K]
        positives.append(positive)
        negatives.append(negative)
        differences.append((positive[:, None] - negative[None, :]).ravel())
        score_range = max(score_range, float(score_K.max() - score_K.min()))
    difference = _joined(differences)
    accuracy = float(((difference > 0) + 0.5 * (difference == 0)).mean()) if len(difference) else float("nan")
    margins = difference / score_range if score_range else difference
    return ScoreSpread(name, _joined(positives), _joined(negatives), margins, score_range, accuracy)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0)
