"""Published teacher scores of triples (Hofstaetter et al. 2020, Zenodo 4068216), for Margin-MSE.

`bert_cat_ensemble_msmarcopassage_train_scores_ids.tsv`: score of the positive, score of the negative, query, positive,
negative.
"""

from __future__ import annotations

from stillhouse.imports.format import Format, each_file
from stillhouse.imports.row import MalformedError, Passage, Row, score


def parse(line: str) -> Row:
    fields = line.split()
    if len(fields) != 5:
        raise MalformedError("5 columns: positive_score negative_score query positive negative", line)
    positive_score, negative_score = score(fields[0], "positive_score"), score(fields[1], "negative_score")
    query, positive, negative = fields[2:]
    return Row(
        query,
        (Passage(positive, grade=1, score=positive_score, rank=0), Passage(negative, score=negative_score, rank=0)),
    )


FORMAT = Format(
    "Hofstaetter's triples with teacher scores, TSV: pos_score neg_score query positive negative",
    each_file("lines"),
    parse,
    triples=True,
    scales=("logit", "probability", "grade"),
    ranked_by="score",
)
