"""Scores of `colbert` against PyLate's ColBERT on the same weights, PyLate in an environment of its own.

PyLate pins older transformers and sentence-transformers, so it cannot live beside stillhouse:

    python3 -m venv pylate-env
    pylate-env/bin/pip install pylate
    python benchmarks/pylate_parity.py pylate-env/bin/python

Every combination of switches is exported with `stillhouse export --to pylate`'s own function, read by
`pylate.models.ColBERT`, and scored by both on docstrings of the standard library, some longer than the caps.
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import json
import subprocess
import sys
import tempfile
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

PACKAGES = ("pylate", "torch", "transformers", "sentence-transformers")
MODULES = ("json", "csv", "pathlib", "shutil", "socket", "statistics", "textwrap", "threading")
CAPS = {"query_max_length": 20, "doc_max_length": 64}
MARKERS = {"query_marker": "[unused0]", "doc_marker": "[unused1]"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the scores of colbert with those of PyLate.")
    parser.add_argument("python", help="the interpreter of an environment with PyLate")
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--projection", type=int, default=128)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "pylate_parity.json")
    arguments = parser.parse_args()
    result = compare(arguments.python, arguments.backbone, arguments.projection)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"max difference {result['max_difference']:.2e} on scores up to {result['max_score']:.1f}: {arguments.output}"
    )


def compare(python: str, backbone: str, projection: int = 128) -> dict[str, Any]:
    """Max absolute difference per combination of switches, over all of them, and the versions of both sides."""
    from stillhouse.rankers import RANKERS
    from stillhouse.rankers.export import export

    queries, docs = texts()
    cases = []
    with tempfile.TemporaryDirectory() as place:
        for number, switches in enumerate(combinations()):
            options = switches | {"similarity": "cosine", "projection_dim": projection}
            ranker = RANKERS["colbert"].from_backbone(backbone, **CAPS, **options)
            folder = Path(place, str(number))
            export(ranker, folder, "pylate")
            ours = ranker.score(queries, [docs] * len(queries)).tolist()
            cases.append({"switches": switches, "folder": str(folder), "ours": ours})
        tokenised = {"query_max_length": ranker.tokenise(queries), "doc_max_length": ranker.tokenise(docs)}
        cut = {name: sum(len(ids) > CAPS[name] for ids in some) for name, some in tokenised.items()}
        asked = {"queries": queries, "docs": docs, "folders": [case["folder"] for case in cases]}
        done = subprocess.run(  # in the other environment: this file again, without stillhouse
            [python, __file__, "--peer"], input=json.dumps(asked), capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        sys.exit(f"error: {python}: PyLate did not score: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
    peer = json.loads(done.stdout.splitlines()[-1])
    rows = [
        {"switches": case["switches"], "max_difference": _difference(case["ours"], theirs)}
        for case, theirs in zip(cases, peer["scores"], strict=True)
    ]
    return {
        "backbone": backbone,
        "projection_dim": projection,
        "queries": len(queries),
        "documents": len(docs),
        "caps": CAPS,
        "longer_than_cap": cut,
        "different_score_tables": len({str(case["ours"]) for case in cases}),
        "max_difference": max(row["max_difference"] for row in rows),
        "max_score": max(max(row) for case in cases for row in case["ours"]),
        "cases": rows,
        "stillhouse": versions(("torch", "transformers", "sentence-transformers")),
        "peer": peer["versions"],
    }


def combinations() -> list[dict[str, Any]]:
    """The switches that PyLate knows: expansion and whether it is attended to, skipped punctuation, markers."""
    found = []
    for expands, attends, skips, marked in itertools.product([True, False], repeat=4):
        if attends and not expands:
            continue
        masks = {"mask_mode": "pad_to_length"} if expands else {"num_mask_tokens": 0}
        switches = masks | {"attend_to_masks": attends, "skip_punctuation": skips} | (MARKERS if marked else {})
        found.append(switches)
    return found


def texts() -> tuple[list[str], list[str]]:
    """Summary sentences as queries, the rest of the same docstrings as documents."""
    queries, docs = [], []
    for name in MODULES:
        module = import_module(name)
        for value in vars(module).values():
            text = inspect.getdoc(value) if getattr(value, "__module__", None) == name else None
            summary, _, rest = (text or "").partition("\n\n")
            if rest.strip():
                queries.append(" ".join(summary.split()))
                docs.append(" ".join(rest.split()))
    return queries[:20], docs[:40]


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Installed versions, and that of Python."""
    return {name: metadata.version(name) for name in packages} | {"python": sys.version.split()[0]}


def _difference(ours: list[list[float]], theirs: list[list[float]]) -> float:
    pairs = zip(itertools.chain(*ours), itertools.chain(*theirs), strict=True)
    return max(abs(one - other) for one, other in pairs)


def peer() -> None:
    """What the other environment does: read JSON, score every folder with PyLate, write JSON."""
    import torch
    from pylate import models, scores

    asked = json.load(sys.stdin)
    found = []
    for folder in asked["folders"]:
        model = models.ColBERT(folder, device="cpu")
        queries = model.encode(asked["queries"], is_query=True, show_progress_bar=False)
        docs = model.encode(asked["docs"], is_query=False, show_progress_bar=False)
        # One by one: rows of different numbers of vectors need no padding then.
        rows = [
            [float(scores.colbert_scores(torch.tensor(query)[None], torch.tensor(doc)[None])[0, 0]) for doc in docs]
            for query in queries
        ]
        found.append(rows)
    print(json.dumps({"scores": found, "versions": versions(PACKAGES)}))


if __name__ == "__main__":
    peer() if sys.argv[1:] == ["--peer"] else main()
