"""Retrieve from a collection, or re-rank a run, with a saved ranker: without a recipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from stillhouse.collection import Collection, materialise_split, token_ids
from stillhouse.errors import CollectionError
from stillhouse.evaluation.rerank import rerank
from stillhouse.evaluation.trec import write_run
from stillhouse.pipeline.context import workspace
from stillhouse.pipeline.ray_session import connect, disconnect
from stillhouse.progress import progress_line
from stillhouse.records import Run

if TYPE_CHECKING:
    from stillhouse.candidates import Candidates
    from stillhouse.evaluation.ann import AnnIndex, AnnOptions
    from stillhouse.evaluation.encoded import EncodedDocs
    from stillhouse.rankers import Ranker

Count = Callable[[int, int], None]
RECALL_AT = 10
_ALL = 10**6


def retrieve_file(
    model: str,
    ref: str,
    split: str,
    depth: int,
    output: Path,
    *,
    index: str = "exact",
    index_options: Sequence[str] = (),
    workers: int = 0,
    dtype: Literal["float32", "bfloat16"] = "float32",
    recall_queries: int = 0,
    console: Console,
    verbose: bool = False,
) -> Run:
    """Write the `depth` best documents of a collection for each query of a split, as a TREC run; returns it."""
    from stillhouse.evaluation.ann import ann_options
    from stillhouse.evaluation.approximate import check_recall, check_searchable, searcher
    from stillhouse.evaluation.encode import encoding_of
    from stillhouse.evaluation.retrieve import retrieve

    options = None if index == "exact" else ann_options(index, index_options)
    root = workspace()
    ranker = opened(model, dtype)
    if options is not None:
        check_searchable(ranker)
    collection = materialise_split(ref, split, root)
    encoded = encoding_of(ranker, collection.docs, root)
    _encode(model, ranker, collection, encoded, root, workers, dtype, console, verbose)
    search = None
    if options is not None:
        search = searcher(ranker, encoded, _index(encoded, options, root, console))
    with _counted(console, "retrieving", "documents" if search is None else "queries") as count:
        run = retrieve(ranker, collection, split, depth, root, encoded=encoded, search=search, progress=count)
    write_run(output, run, _tag(model))
    short = sum(len(scores) < min(depth, len(encoded)) for scores in run.values())
    if short:
        console.print(f"     {short} queries have fewer than {depth} documents", highlight=False, style="dim")
    if search is not None and recall_queries:
        with _counted(console, "exact search", "documents") as count:
            depths = sorted({min(RECALL_AT, depth), depth})
            found = check_recall(ranker, collection, split, encoded, run, root, recall_queries, depths, progress=count)
        told = ", ".join(f"recall@{at} {value:.4f}" for at, value in found.items())
        queries = min(recall_queries, len(collection.splits[split].queries))
        console.print(f"{told} against exact search on {queries} queries.", highlight=False)
    console.print(f"{len(run)} queries are in {output}.", highlight=False, markup=False)
    return run


def rerank_file(
    source: Path,
    model: str,
    ref: str,
    split: str,
    depth: int | None,
    output: Path,
    *,
    workers: int = 0,
    dtype: Literal["float32", "bfloat16"] = "float32",
    console: Console,
    verbose: bool = False,
) -> Run:
    """Re-rank the first `depth` documents (None: all) of each query of a TREC run; writes and returns the new run."""
    from stillhouse.candidates import candidates_for
    from stillhouse.recipe.tree import CandidatesSpec

    root = workspace()
    collection = materialise_split(ref, split, root)
    candidates = candidates_for(CandidatesSpec(source=str(source), depth=depth or _ALL), collection, split, root)
    for name, count in candidates.facts.items():
        if count and name.startswith(("lines of", "queries without")):
            console.print(f"     {source}: {count} {name}, left out", highlight=False, style="dim", markup=False)
    with _counted(console, "re-ranking", "queries") as count_:
        if workers > 1:
            with _ray(verbose):
                run = rerank_spread(
                    model,
                    collection,
                    split,
                    candidates,
                    depth or _ALL,
                    root,
                    workers=workers,
                    dtype=dtype,
                    count=count_,
                )
        else:
            ranker = opened(model, dtype)
            run = rerank(ranker, collection, split, candidates, depth or _ALL, root, progress=count_)
    write_run(output, run, _tag(model))
    console.print(f"{len(run)} queries are in {output}.", highlight=False, markup=False)
    return run


def rerank_spread(
    model: str,
    collection: Collection,
    split: str,
    candidates: Candidates,
    depth: int,
    root: Path,
    *,
    workers: int,
    dtype: str = "float32",
    count: Count | None = None,
) -> Run:
    """`rerank` over the actors of the connected cluster."""
    from stillhouse.evaluation.distributed import rerank_distributed
    from stillhouse.evaluation.encode_ray import actor_share

    cpus, gpus = actor_share(workers)
    return rerank_distributed(
        Path(model).resolve() if Path(model).exists() else model,
        collection,
        split,
        candidates,
        depth,
        root,
        num_actors=workers,
        cpus_per_actor=cpus,
        gpus_per_actor=gpus,
        dtype=dtype,
        progress=count,
    )


def opened(model: str, dtype: str) -> Ranker:
    """A saved ranker, its backbone in `dtype`, on the GPU if there is one."""
    import torch

    from stillhouse.rankers import load_ranker

    ranker = load_ranker(model).for_scoring(getattr(torch, dtype))
    return ranker.to("cuda") if torch.cuda.is_available() else ranker


def _encode(
    model: str,
    ranker: Ranker,
    collection: Collection,
    encoded: EncodedDocs,
    root: Path,
    workers: int,
    dtype: str,
    console: Console,
    verbose: bool,
) -> None:
    from stillhouse.evaluation.encode import encode

    missing = encoded.missing()
    if len(missing) < len(encoded.shards):
        there = len(encoded.shards) - len(missing)
        console.print(f"     {there} of {len(encoded.shards)} shards are encoded", highlight=False, style="dim")
    if not missing:
        return
    with _counted(console, "encoding", "docs") as count:
        if workers > 1:
            from stillhouse.evaluation.encode_ray import encode_distributed

            doc_ids = token_ids(collection.docs, ranker, root)
            with _ray(verbose):
                encode_distributed(
                    model, collection.docs, doc_ids, encoded, workers=workers, dtype=dtype, progress=count
                )
        else:
            encode(ranker, collection.docs, root, encoded, progress=count)


def _index(encoded: EncodedDocs, options: AnnOptions, root: Path, console: Console) -> AnnIndex:
    from stillhouse.evaluation.ann import open_index

    with _counted(console, f"{options.kind} index", "vectors") as count:
        return open_index(encoded, options, root, progress=count)


@contextmanager
def _counted(console: Console, name: str, what: str) -> Iterator[Count]:
    """A step with its progress line; what is done is counted, and told with its rate."""
    started = time.perf_counter()
    rate = ""
    with progress_line(console, name) as advance:

        def count(done: int, total: int) -> None:
            nonlocal rate
            rate = f"{done / max(time.perf_counter() - started, 1e-9):,.0f} {what}/s"
            advance(done, total, rate)

        yield count
    seconds = time.perf_counter() - started
    console.print(f"[green]done[/] {name} [dim]{seconds:.1f} s {rate}[/]", highlight=False)


@contextmanager
def _ray(verbose: bool) -> Iterator[None]:
    """The cluster that is connected, or one for as long as it is needed."""
    import ray

    before = ray.is_initialized()
    connect(verbose)
    try:
        yield
    finally:
        if not before:
            disconnect()


def _tag(model: str) -> str:
    """The last part of a ranker's name, as the last column of a run."""
    name = "-".join((Path(model).name or Path(model).resolve().name).split())
    if not name:
        raise CollectionError(f"model {model!r}: no name for the run's last column; give a folder or a hub name")
    return name
