"""`stillhouse new`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from stillhouse.errors import RecipeError

TEMPLATE = """\
# A recipe for stillhouse. Every key with its meaning: stillhouse list schema recipe
#   stillhouse plan {file}       what it would cost
#   stillhouse run {file}        teacher, scores, search, students, table
# Any key can be changed for one run: --set stages.distill.loss.temperature=4
name: {name}
seed: 0

# Results: the table, the teacher, the student, the runs.
output: {{path: runs/{name}}}

# ir_datasets ids, or a folder with corpus.jsonl (doc_id, title, text), queries.<split>.jsonl (query_id, text) and
# qrels.<split>.tsv (query 0 document grade). Everything is chosen on dev; test is looked at once, at the end.
collection:
  train: {train}
  dev: {dev}
  test: {test}
  # max_train_queries: 2000     # a seeded sample, for a first try

# The first stage: bm25, scoreddocs of the collection, or a TREC run, e.g. runs/first.{{split}}.trec.gz
candidates: {{source: bm25, depth: 30}}

# One or several; several are an ensemble, the mean of their scores. A teacher without stages is used as it is; scores
# that you have already: {{scores: FILE}}.
teachers:
  cross:
    ranker: cross_encoder
    backbone: minilm            # a folder, a hub name, or minilm: the weights of the extra `demo`
    pooling: mean
    query_max_length: 32        # in tokens; queries and documents are cut apart
    doc_max_length: 192
    stages:
      label:
        loss: {{name: contrastive}}
        groups: {{strategy: random, num_negatives: 3}}
        optimizer: {{learning_rate: 5e-5, head_learning_rate: 1e-3}}

# Every pair is scored once, whatever is searched later. On a cluster: a folder that all nodes see.
store: {{path: .stillhouse/scores}}

student:
  ranker: dual_encoder          # documents can be encoded beforehand
  backbone: minilm
  num_layers: 3                 # the first layers of the backbone; leave it out to keep all
  query_max_length: 32
  doc_max_length: 192
  similarity: dot

# In order; each stage starts from the weights of the one before.
stages:
  distill:
    loss: {{name: kl, temperature: 2.0}}        # others: stillhouse list losses
    groups: {{strategy: random, num_negatives: 7}}
    optimizer: {{learning_rate: 5e-5}}
    epochs: 1
    queries_per_step: 32

# Temperature, number of negatives and learning rate, by dev; another space: a name (stillhouse list spaces) or a file.
search: {{space: temperature_negatives_lr, trials: 8}}

# The winner is trained again by this many workers, sharded.
retrain: {{num_workers: 2, sharding: fsdp}}

# For comparison: the same student, data and budget, another objective.
baselines:
  contrastive: {{stages.distill.loss: {{name: contrastive}}}}

# ir_measures names; select_by picks checkpoints, trials and teachers on dev.
evaluation: {{measures: ["nDCG@10", "RR@10", "R@30"], depth: 30, select_by: "nDCG@10"}}

tracking: {{uri: "sqlite:///.stillhouse/mlflow.db", experiment: {name}}}
"""


def new(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The recipe to write, e.g. my.yaml.")],
    collection: Annotated[
        str, typer.Option("--collection", metavar="REF", help="ir_datasets id or folder; its train, dev and test.")
    ] = "stillhouse/pydocs",
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="The file's name by default.")] = None,
) -> None:
    """Write a commented recipe for your own collection.

    \b
    Examples:
      stillhouse new my.yaml --collection my/folder
      stillhouse new scifact.yaml --collection beir/scifact --name scifact
    """
    from stillhouse.artifacts import atomic_file
    from stillhouse.recipe import make_recipe
    from stillhouse.recipe.text import parse_yaml

    if path.exists():
        raise RecipeError(f"{path}: exists already; choose another path, or remove it")
    chosen = name or re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower()).strip("-_") or "recipe"
    splits = {split: _scalar(f"{collection.rstrip('/')}/{split}") for split in ("train", "dev", "test")}
    text = TEMPLATE.format(file=path.name, name=chosen, **splits)
    make_recipe(parse_yaml(text, str(path)), place=str(path))
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    typer.echo(f"{path} is written; next: stillhouse plan {path}")


def _scalar(text: str) -> str:
    """A string as YAML; plain ids and paths need no quotes, and JSON's are YAML's."""
    return text if re.fullmatch(r"[A-Za-z][\w./-]*", text) else json.dumps(text, ensure_ascii=False)
