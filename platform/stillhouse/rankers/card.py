"""The model card of a saved ranker: a README whose code runs in the folder it lies in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from stillhouse.rankers.backbones import HUB_NAMES, resolve
from stillhouse.rankers.hub import cached_file, is_hub_name

if TYPE_CHECKING:
    from stillhouse.rankers.base import Ranker

CARD = "README.md"
_LOAD = "## How to load"
_OPTIONS = "## Options"
_HERE = '(".")'

_OWN_LINES = """from stillhouse import load_ranker
ranker = load_ranker(".")
scores = ranker.score(["a query"], [["a document", "another one"]])"""
_APART = """queries, docs = model.encode_query(["a query"]), model.encode_document(["a document", "another one"])
scores = model.similarity(queries, docs)"""
_LIBRARY_LINES = {
    "cross_encoder": """from sentence_transformers import CrossEncoder
model = CrossEncoder(".")
scores = model.predict([("a query", "a document"), ("a query", "another one")])""",
    "prettr": """from sentence_transformers import CrossEncoder
model = CrossEncoder(".")
scores = model.predict([("a query", "a document"), ("a query", "another one")])""",
    "dual_encoder": f"""from sentence_transformers import SentenceTransformer
model = SentenceTransformer(".")
{_APART}""",
    "colbert": f"""from sentence_transformers import MultiVectorEncoder
model = MultiVectorEncoder(".")
{_APART}""",
}


def model_card(ranker: Ranker, body: str, *, opens_in_library: bool) -> str:
    """Markdown with a YAML front matter: what the ranker is, what is known about it (`body`), how to load it."""
    backbone = ranker.spec.backbone
    published = HUB_NAMES.get(backbone, backbone)
    named = backbone in HUB_NAMES or (is_hub_name(backbone) and not Path(backbone).is_dir())
    licence = licence_of(backbone)
    front: dict[str, Any] = {
        "library_name": "sentence-transformers" if opens_in_library else "stillhouse",
        "pipeline_tag": "text-ranking",
        "tags": ["stillhouse", "reranker", ranker.key.replace("_", "-")],
    }
    # The hub refuses a base model that is no repository, as a folder of this machine is none.
    front |= {"base_model": published.partition("@")[0]} if named else {}
    front |= {"license": licence} if licence else {}
    num_parameters = sum(parameter.numel() for parameter in ranker.parameters())
    about = f"{num_parameters / 1e6:.1f} million parameters. {(type(ranker).__doc__ or '').splitlines()[0]}"
    if licence:
        about += f" The backbone's licence is {licence}."
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {ranker.key.replace('_', ' ')} on {published if named else Path(backbone).name}",
        about,
        *([body.strip()] if body.strip() else []),
        f"{_LOAD}\n\nThe dot is the folder of this card.\n\n{_python(_OWN_LINES)}",
    ]
    if opens_in_library:
        parts.append(f"In sentence-transformers 6, with equal scores:\n\n{_python(_LIBRARY_LINES[ranker.key])}")
    options = "\n".join(f"- `{name}`: {value}" for name, value in ranker.spec.model_dump().items())
    parts.append(f"{_OPTIONS}\n\n{options}")
    return "\n\n".join(parts) + "\n"


def licence_of(backbone: str) -> str | None:
    """What the backbone's own card says its licence is; None where there is no card on this machine."""
    folder = Path(backbone).expanduser()
    try:
        card = (
            resolve(backbone) / CARD
            if backbone == "minilm" or folder.is_dir()
            else cached_file(HUB_NAMES.get(backbone, backbone), CARD)
        )
        front = yaml.safe_load(card.read_text().split("---\n")[1]) if card is not None and card.is_file() else None
    except (OSError, ValueError, IndexError, yaml.YAMLError):
        return None
    licence = front.get("license") if isinstance(front, dict) else None
    return licence if isinstance(licence, str) else None


def body_of(card: str) -> str:
    """What `model_card` was given as body: the sections between the first lines and how to load it.

    Where none stands there, those that end the card, after the options, as in cards of older folders.
    """
    before, found, _ = card.partition(f"\n{_LOAD}\n")
    start = before.find("\n## ")
    if not found or start >= 0:
        return before[start:].strip() if found else ""
    _, options, after = card.partition(f"\n{_OPTIONS}\n")
    # By name: an option such as a template may hold headings of its own.
    starts = [place for name in ("Training", "Measured") if (place := after.find(f"\n## {name}\n")) >= 0]
    return after[min(starts) :].strip() if options and starts else ""


def with_body(card: str, body: str) -> str:
    """The card with `body` in its place, before how to load it."""
    before, found, after = card.partition(f"\n{_LOAD}\n")
    return f"{before.rstrip()}\n\n{body.strip()}\n{found}{after}" if found else f"{card.rstrip()}\n\n{body.strip()}\n"


def with_lines(card: str, sentence: str, code: str) -> str:
    """The card with one more way to load the folder."""
    before, found, after = card.rpartition(f"\n{_OPTIONS}\n")
    return f"{before.rstrip()}\n\n{sentence}\n\n{_python(code)}\n{found}{after}"


def with_name(card: str, name: str) -> str:
    """The card with a hub name where the code names its own folder."""
    return card.replace(_HERE, f'("{name}")').replace("The dot is the folder of this card.\n\n", "")


def _python(code: str) -> str:
    return f"```python\n{code}\n```"
