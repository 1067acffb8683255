"""First-stage candidates: BM25, TREC run files, or the scoreddocs of an ir_datasets id."""

from stillhouse.candidates.first_stage import candidates_for
from stillhouse.candidates.ranking import Candidates

__all__ = ["Candidates", "candidates_for"]
