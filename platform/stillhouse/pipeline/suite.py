"""Rankers on the collections of a suite: first stage, re-ranking, measures, each kept under what it depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from stillhouse.artifacts import cached_folder, stable_hash
from stillhouse.errors import RecipeError
from stillhouse.evaluation.measures import PerQuery, at_relevance, per_query
from stillhouse.evaluation.rerank import rerank
from stillhouse.evaluation.suite import FirstStage, Suite, SuiteCollection
from stillhouse.evaluation.suite_result import CollectionResult, SuiteResult, suite_result, write_suite
from stillhouse.evaluation.trec import read_run, write_run
from stillhouse.progress import progress_line
from stillhouse.records import Run

if TYPE_CHECKING:
    from stillhouse.candidates import Candidates
    from stillhouse.collection import Collection
    from stillhouse.evaluation.measures import Qrels

Dtype = Literal["auto", "float32", "bfloat16"]
FILE = "run.trec.gz"


@dataclass(frozen=True)
class Entrant:
    """A ranker of the comparison: what it is called, where it lies, what decides its scores."""

    name: str
    model: str
    identity: dict[str, Any]


@dataclass(frozen=True)
class Opened:
    """One collection of a suite, opened."""

    entry: SuiteCollection
    collection: Collection
    candidates: Candidates
    stage: FirstStage
    qrels: Qrels
    relevance: int

    def first_stage(self) -> str:
        """The candidates in words."""
        if self.stage.source == "bm25":
            return f"bm25 (k1 {self.stage.k1:g}, b {self.stage.b:g}), first {self.stage.depth}"
        return f"{self.stage.source}, first {self.stage.depth}"


def run_suite(
    suite: Suite, models: Sequence[str], output: Path, *, root: Path, console: Console, dtype: Dtype = "auto"
) -> SuiteResult:
    """Measure the models on every collection and write tables, runs and values per query to `output`.

    What is kept under `root` is not made again, so after a kill the same command goes on.
    """
    entrants = open_entrants(models, dtype)
    results = []
    for entry in suite.collections:
        test = open_test(entry, suite.candidates, root)
        measures = at_relevance(suite.measures, test.relevance)
        runs = {"first stage": test.candidates.run(test.collection, "test")}
        for entrant in entrants:
            runs[entrant.name] = ranked_by(entrant, test, root, console, dtype)
        for name, run in runs.items():
            path = output / "runs" / f"{entry.file_name}.{_file_name(name)}.trec.gz"
            write_run(path, run, _file_name(name))
        values: dict[str, PerQuery] = {name: per_query(run, test.qrels, measures) for name, run in runs.items()}
        results.append(_result(test, values))
    result = suite_result(suite.name, suite.measures, results)
    write_suite(result, output, {"models": {one.name: {"model": one.model, **one.identity} for one in entrants}})
    return result


def open_entrants(models: Sequence[str], dtype: Dtype) -> list[Entrant]:
    """The models by their shortest names that differ. RecipeError where one stands twice."""
    from stillhouse.rankers import load_ranker
    from stillhouse.scores.identity import identity_of
    from stillhouse.training.run import pick_device

    for model in models:
        if models.count(model) > 1:
            raise RecipeError(f"--model {model}: given twice")
    short = [Path(model).name for model in models]
    names = [name if short.count(name) == 1 else model for name, model in zip(short, models, strict=True)]
    device: Literal["cpu", "cuda"] = "cuda" if pick_device().type == "cuda" else "cpu"
    return [
        Entrant(name, model, identity_of(load_ranker(model), dtype, device))
        for name, model in zip(names, models, strict=True)
    ]


def open_test(entry: SuiteCollection, default: FirstStage, root: Path) -> Opened:
    """Texts, candidates and all judgements of one collection.

    Measures are over every judged query, as those of `stillhouse evaluate --run`.
    """
    from stillhouse.candidates import candidates_for
    from stillhouse.collection import local_data, materialise
    from stillhouse.collection.judgements import all_qrels, ref_of_split, relevance_of, source_of_split
    from stillhouse.recipe.tree import CollectionSpec

    ref = ref_of_split(entry.collection, entry.split)
    collection = materialise(CollectionSpec(train=ref, dev=ref, test=ref), 0, root)
    stage = entry.candidates or default
    if local_data.names_one(stage.source):
        stage = stage.model_copy(update={"source": str(local_data.find(stage.source))})
    candidates = candidates_for(stage, collection, "test", root)
    source = source_of_split(ref, entry.split)
    relevance = relevance_of(source) if entry.relevance is None else entry.relevance
    return Opened(entry, collection, candidates, entry.candidates or default, all_qrels(source), relevance)


def ranked_by(entrant: Entrant, test: Opened, root: Path, console: Console, dtype: Dtype) -> Run:
    """The candidates re-ranked by a model, kept under its identity."""
    key = stable_hash(["suite", entrant.identity, test.collection.digest, test.candidates.key])
    folder = root / "reranked" / key

    def build(target: Path) -> dict[str, Any]:
        from stillhouse.rankers import load_ranker
        from stillhouse.training.run import pick_device, pick_dtype

        device = pick_device()
        ranker = load_ranker(entrant.model).for_scoring(pick_dtype(dtype, device)).to(device)
        with progress_line(console, f"{test.entry.title}: {entrant.name}") as advance:
            run = rerank(
                ranker,
                test.collection,
                "test",
                test.candidates,
                test.stage.depth,
                root,
                progress=lambda done, total: advance(done, total, ""),
            )
        write_run(target / FILE, run, _file_name(entrant.name))
        return {"ranker": entrant.name, "truncated": ranker.truncation.share}

    cached_folder(folder, build)
    return read_run(folder / FILE)


def _file_name(name: str) -> str:
    return "-".join(name.replace("/", " ").split())


def _result(test: Opened, values: dict[str, PerQuery]) -> CollectionResult:
    return CollectionResult(
        title=test.entry.title,
        group=test.entry.group or test.entry.title,
        collection=test.entry.collection,
        split=test.entry.split,
        relevance=test.relevance,
        documents=len(test.collection.docs),
        queries=len(test.qrels),
        candidates=test.first_stage(),
        values=values,
    )
