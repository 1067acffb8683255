"""The field's public training files, read as rows, and written as collections, candidates, triples and scores."""

from stillhouse.imports import dpr, rank_distillm, rankgpt, rlhn, sbert, teacher_scores, tevatron, triples
from stillhouse.imports.format import Format

FORMATS: dict[str, Format] = {
    "triples": triples.FORMAT,
    "teacher-scores": teacher_scores.FORMAT,
    "sbert": sbert.FORMAT,
    "rank-distillm": rank_distillm.FORMAT,
    "rankgpt": rankgpt.FORMAT,
    "tevatron": tevatron.FORMAT,
    "rlhn": rlhn.FORMAT,
    "dpr": dpr.FORMAT,
}

__all__ = ["FORMATS", "Format"]
