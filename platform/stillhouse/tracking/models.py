"""Rankers kept in MLflow: from a URI to a folder. Only data is read: no pickle, and no code of a model runs."""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import yaml

from stillhouse.errors import TrackingError
from stillhouse.recipe.tree import TrackingSpec
from stillhouse.tracking.mlflow_tracker import absolute_uri, database, first_line, open_client

FLAVOUR_FOLDER = "model.sentence_transformer"
"""Where MLflow's sentence_transformers flavour keeps the model's own folder."""
_SAFE = (".json", ".txt", ".model", ".safetensors", ".md")
_SCHEMES = re.compile(r"(runs|models|mlflow-artifacts):/")


def is_model_uri(name: str) -> bool:
    """Whether a name is an MLflow URI: `runs:/ID/PATH`, `models:/NAME/VERSION`, `mlflow-artifacts:/PATH`."""
    return _SCHEMES.match(name) is not None


def fetch_model(uri: str, tracking_uri: str | None = None) -> Path:
    """The folder of the ranker behind an MLflow URI; what lies on another machine is copied until this process ends.

    `runs:/ID/PATH` (artifacts of a run, or a model it logged), `models:/NAME/VERSION`, `models:/NAME@ALIAS`,
    `models:/m-ID`, `mlflow-artifacts:/PATH`. The store is `tracking_uri`, else MLFLOW_TRACKING_URI, else a recipe's
    default. Of a logged model the sentence_transformers flavour is opened, or the ranker among a pyfunc's artifacts.
    TrackingError when there is none.
    """
    store = absolute_uri(tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or TrackingSpec().uri)
    file = database(store)
    if file is not None and not file.exists():
        raise TrackingError(
            f"{uri}: no MLflow store at {file}; name the one that holds it: MLFLOW_TRACKING_URI=sqlite:///path/mlflow.db"
        )
    try:
        folder = _download(_location(open_client(store), uri), store)
    except TrackingError:
        raise
    except Exception as error:  # of its store, of HTTP and of the file system
        raise TrackingError(f"{uri}: MLflow at {store} does not give it: {first_line(error)}") from error
    return _ranker_in(folder, uri)


def _location(client: Any, uri: str) -> str:
    """The artifact URI behind a `runs:` or `models:` URI; others are locations themselves."""
    scheme, _, rest = uri.partition(":")
    first, _, path = rest.strip("/").partition("/")
    if scheme == "runs":
        run = client.get_run(first)
        model = _logged_by(client, run, path)
        return _join(run.info.artifact_uri, path) if model is None else str(model.artifact_location)
    if scheme != "models":
        return uri
    if not path and re.fullmatch(r"m-[0-9a-f]+", first):
        return str(client.get_logged_model(first).artifact_location)
    name, _, alias = unquote(first).partition("@")
    if alias:
        version = client.get_model_version_by_alias(name, alias).version
    elif path.isdigit():
        version = path
    else:
        raise TrackingError(f"{uri}: name a version or an alias: models:/{name}/1 or models:/{name}@champion")
    return _location(client, str(client.get_model_version_download_uri(name, version)))


def _logged_by(client: Any, run: Any, name: str) -> Any:
    """The logged model of this name that a run made; MLflow 3 keeps those beside the run's artifacts."""
    if not name or "'" in name or "/" in name:
        return None
    token = None
    while True:
        found = client.search_logged_models([run.info.experiment_id], f"name = '{name}'", page_token=token)
        for model in found:
            if model.source_run_id == run.info.run_id:
                return model
        token = found.token
        if not token:
            return None


def _join(root: str, path: str) -> str:
    return f"{root.rstrip('/')}/{path}" if path else root


def _download(location: str, store: str) -> Path:
    """A folder on this machine as it lies; of any other the files that can only be data."""
    parsed = urlparse(location)
    if parsed.scheme in ("", "file"):
        folder = Path(unquote(parsed.path))
        if not folder.is_dir():
            raise TrackingError(f"{folder}: no such folder of artifacts")
        return folder
    return _copy(location, store)


@functools.cache
def _copy(location: str, store: str) -> Path:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    repository = get_artifact_repository(location, tracking_uri=store)
    folder = Path(tempfile.mkdtemp(prefix="stillhouse-model-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for path in _files(repository, None):
        if path.endswith(_SAFE) or Path(path).name == "MLmodel":
            repository.download_artifacts(path, str(folder))
    return folder


def _files(repository: Any, folder: str | None) -> Iterator[str]:
    for entry in repository.list_artifacts(folder):
        if entry.is_dir:
            yield from _files(repository, entry.path)
        else:
            yield entry.path


def _ranker_in(folder: Path, uri: str) -> Path:
    """The folder itself, or what a logged model says of its parts."""
    if _holds_model(folder):
        return folder
    description = folder / "MLmodel"
    if not description.is_file():
        raise TrackingError(f"{uri}: no ranker there; its folder would hold config.json or ranker.json")
    try:
        flavours = dict(yaml.safe_load(description.read_text()).get("flavors") or {})
    except (yaml.YAMLError, AttributeError, ValueError, TypeError) as error:
        raise TrackingError(f"{uri}: its MLmodel cannot be read: {first_line(error)}") from None
    places = [FLAVOUR_FOLDER] if "sentence_transformers" in flavours else []
    artifacts = (flavours.get("python_function") or {}).get("artifacts") or {}
    places += [str(artifact["path"]) for artifact in artifacts.values()]
    inside = [folder / place for place in places if (folder / place).resolve().is_relative_to(folder.resolve())]
    rankers = [place for place in inside if _holds_model(place)]
    if len(rankers) != 1:
        raise TrackingError(
            f"{uri}: a model of flavour {', '.join(flavours) or 'none'} with {len(rankers)} rankers inside; log the "
            "ranker's folder, its sentence_transformers flavour, or a pyfunc with that folder as its artifact"
        )
    return rankers[0]


def _holds_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("ranker.json", "modules.json", "config.json"))
