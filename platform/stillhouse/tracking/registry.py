"""Rankers in MLflow's model registry: data and the source of its reader, nothing pickled."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.errors import TrackingError
from stillhouse.tracking.mlflow_tracker import absolute_uri, first_line, open_client

CODE = Path(__file__).with_name("ranker_model.py")
CONTENT = "stillhouse.content"
BEST = "best"
"""The alias of the version that was registered, or found again, last: `models:/NAME@best`."""
FOLDER = "model"


@dataclass(frozen=True)
class Registered:
    """A version of a registered model."""

    name: str
    version: str

    @property
    def uri(self) -> str:
        """What opens it, here and by `mlflow.pyfunc.load_model`."""
        return f"models:/{self.name}/{self.version}"


def register_ranker(
    uri: str,
    run_id: str,
    ranker: Path,
    name: str,
    *,
    content: str,
    tags: Mapping[str, str],
    example: Sequence[tuple[str, str]],
) -> Registered:
    """A version of `name` that holds the ranker, under the run that made it; the same `content` is registered once.

    `content` is the ranker's digest; `example` are (query, document) rows. Signature: two strings in, one float out.
    Raises TrackingError.
    """
    store = absolute_uri(uri)
    try:
        client = open_client(store)
        found = _version_of(client, name, content)
        if found is None:
            with tempfile.TemporaryDirectory(prefix="stillhouse-model-") as place:
                folder = Path(place) / FOLDER
                _write(folder, ranker, example)
                client.log_artifacts(run_id, str(folder), FOLDER)
            every = {CONTENT: content, **tags}
            found = str(client.create_model_version(name, f"runs:/{run_id}/{FOLDER}", run_id, tags=every).version)
        client.set_registered_model_alias(name, BEST, found)
    except Exception as error:  # of its store, of HTTP and of the file system
        raise TrackingError(f"{name}: MLflow at {store} does not register it: {first_line(error)}") from error
    return Registered(name, found)


def _version_of(client: Any, name: str, content: str) -> str | None:
    """The version with this content, if there is one; the registered model is made where it is missing."""
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description="Rankers distilled by stillhouse.")
    for one in client.search_model_versions(f"name = '{name}' AND tags.`{CONTENT}` = '{content}'"):
        return str(one.version)
    return None


def _write(folder: Path, ranker: Path, example: Sequence[tuple[str, str]]) -> None:
    """The model's folder: MLmodel, the reader's source, the ranker, an input example."""
    import mlflow.pyfunc
    import pandas as pd  # type: ignore[import-untyped]
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    # What it says is about environments of a model server, which need nothing but this package.
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    mlflow.pyfunc.save_model(
        str(folder),
        python_model=str(CODE),
        artifacts={"ranker": str(ranker)},
        signature=ModelSignature(
            inputs=Schema([ColSpec("string", "query"), ColSpec("string", "document")]),
            outputs=Schema([ColSpec("float")]),
        ),
        input_example=pd.DataFrame(list(example), columns=["query", "document"]),
        pip_requirements=[f"stillhouse=={importlib.metadata.version('stillhouse')}"],
    )
