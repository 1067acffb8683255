"""The model card of a saved ranker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from stillhouse.rankers.backbones import HUB_NAMES

if TYPE_CHECKING:
    from stillhouse.rankers.base import Ranker

_LIBRARY_LINES = {
    "cross_encoder": """from sentence_transformers import CrossEncoder
model = CrossEncoder("PATH")
scores = model.predict([("a query", "a document"), ("a query", "another document")])""",
    "dual_encoder": """from sentence_transformers import SentenceTransformer
model = SentenceTransformer("PATH")
scores = model.similarity(model.encode_query(["a query"]), model.encode_document(["a document", "another one"]))""",
    "colbert": """from sentence_transformers import MultiVectorEncoder
model = MultiVectorEncoder("PATH")
scores = model.similarity(model.encode_query(["a query"]), model.encode_document(["a document", "another one"]))""",
}


def model_card(ranker: Ranker, body: str, *, opens_in_library: bool) -> str:
    """Markdown with a YAML front matter: what the ranker is, what is known about it (`body`), how to load it."""
    spec = ranker.spec
    base_model = HUB_NAMES.get(spec.backbone, spec.backbone)
    front = {
        "library_name": "sentence-transformers" if opens_in_library else "stillhouse",
        "pipeline_tag": "text-ranking",
        "tags": ["stillhouse", "reranker", ranker.key.replace("_", "-")],
        "base_model": base_model,
    }
    options = "\n".join(f"- `{name}`: {value}" for name, value in spec.model_dump().items())
    num_parameters = sum(parameter.numel() for parameter in ranker.parameters())
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {ranker.key.replace('_', ' ')} on {base_model}",
        f"{num_parameters / 1e6:.1f} million parameters. {(type(ranker).__doc__ or '').splitlines()[0]}",
    ]
    if body.strip():
        parts.append(body.strip())
    parts.append(
        "## How to load\n\n```python\nfrom stillhouse import load_ranker\n"
        'ranker = load_ranker("PATH")\nscores = ranker.score(["a query"], [["a document", "another document"]])\n```'
    )
    if opens_in_library:
        parts.append(f"In sentence-transformers 6, with equal scores:\n\n```python\n{_LIBRARY_LINES[ranker.key]}\n```")
    parts.append(f"## Options\n\n{options}")
    return "\n\n".join(parts) + "\n"
