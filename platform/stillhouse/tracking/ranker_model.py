"""The code of a registered ranker. MLflow copies this file beside the ranker and runs it where the model is opened.

So nothing of a model is pickled; whoever opens it by `mlflow.pyfunc.load_model` needs stillhouse installed.
"""

from __future__ import annotations

from typing import Any

import mlflow
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
from mlflow.pyfunc import PythonModel, PythonModelContext


class RankerModel(PythonModel):  # type: ignore[misc]
    """Scores rows of `query` and `document`, higher is better."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the ranker's folder."""
        from stillhouse import load_ranker

        self.ranker = load_ranker(context.artifacts["ranker"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        """float32 [rows], in their order: what `load_ranker(...).score` gives for each query with its documents."""
        queries = list(dict.fromkeys(model_input["query"]))
        rows = {query: np.flatnonzero(model_input["query"] == query) for query in queries}
        texts = model_input["document"].to_numpy()
        scores_QK = self.ranker.score(queries, [texts[rows[query]].tolist() for query in queries])
        found = np.zeros(len(model_input), dtype=np.float32)
        for query, scores_K in zip(queries, scores_QK.numpy(), strict=True):
            found[rows[query]] = scores_K[: len(rows[query])]
        return found


mlflow.models.set_model(RankerModel())
