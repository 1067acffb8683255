"""Trained rankers in the workspace, each under the key of the training that gave it."""

from __future__ import annotations

import functools
import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.artifacts import cached_folder, file_digest, stable_hash
from stillhouse.pipeline.context import Context
from stillhouse.recipe.base import Spec
from stillhouse.recipe.tree import StageSpec
from stillhouse.training.curve import CURVE, read_points
from stillhouse.training.evaluations import EVALUATIONS
from stillhouse.training.groups import rows_with_prefix
from stillhouse.training.job import TrainingJob
from stillhouse.training.triples import Triples, open_triples


@dataclass(frozen=True)
class Model:
    """A ranker folder and the facts of its training."""

    key: str
    path: Path
    facts: dict[str, Any]

    def curve(self) -> list[dict[str, float]]:
        """Points of the training, one per step."""
        return read_points(self.path / CURVE)

    def evaluations(self) -> list[dict[str, float]]:
        """Metrics inside the training, one point per evaluation: `nDCG@10` on dev, `train/kl`."""
        return read_points(self.path / EVALUATIONS)


@dataclass(frozen=True)
class TeacherFile:
    """Teacher scores by row numbers."""

    path: Path
    key: str
    """What the scores depend on: stores, collection, candidates, depth."""
    stores: tuple[str, ...] = ()
    """Keys of the stores they came from: folders under store.path."""
    models: tuple[Path, ...] = ()
    """Folders of the rankers that gave them, in the order of the stores; empty if any was imported."""
    dtype: str = "float32"


def make_job(
    context: Context,
    ranker: Spec,
    stages: Mapping[str, StageSpec],
    teacher: TeacherFile | None = None,
    scale: Mapping[str, Any] | None = None,
) -> TrainingJob:
    """The training of one ranker on the context's collection and candidates."""
    recipe = context.recipe
    keys = [context.candidates(split).key for split in ("train", "dev")]
    own_seed = getattr(ranker, "seed", None)
    return TrainingJob(
        ranker=ranker.model_dump(mode="json", exclude={"stages", "seed"}),
        stages={name: stage.model_dump(mode="json") for name, stage in stages.items()},
        seed=recipe.seed if own_seed is None else own_seed,
        evaluation=recipe.evaluation.model_dump(mode="json"),
        # `min_workers` belongs to the number of workers beside it.
        scale=recipe.scale.model_dump(mode="json", exclude={"min_workers"} if scale else None) | dict(scale or {}),
        candidates=recipe.candidates.model_dump(mode="json"),
        collection=str(context.collection.path),
        collection_digest=context.collection.digest,
        workspace=str(context.root),
        teacher_scores=str(teacher.path) if teacher else None,
        teacher_key=teacher.key if teacher else None,
        backbone_digest=backbone_digest(ranker.model_dump()["backbone"]),
        candidates_key="-".join(keys),
        triples={path: triples.digest for path, triples in triples_of(context, list(stages.values())).items()},
        teacher_models=[str(path) for path in teacher.models] if teacher else [],
        teacher_dtype=teacher.dtype if teacher else "float32",
    )


def triples_of(context: Context, stages: Sequence[StageSpec]) -> dict[str, Triples]:
    """The files of triples that stages name, by path; read into the workspace, where every worker finds them."""
    paths = {stage.groups.triples for stage in stages if stage.groups.triples is not None}
    return {path: open_triples(path, context.collection, context.root) for path in sorted(paths)}


@functools.lru_cache(maxsize=8)
def backbone_digest(backbone: str) -> str:
    """What the weights of a backbone are, whatever they are called."""
    from stillhouse.rankers.backbones import resolve

    files = sorted(resolve(backbone).glob("*.safetensors"))
    return stable_hash([file_digest(file) for file in files])


def train_model(context: Context, name: str, job: TrainingJob) -> Model:
    """Train a ranker, or open it where the same training has been done."""
    path = context.root / "models" / job.key
    with context.step(f"train {name}") as advance:

        def build(folder: Path) -> dict[str, Any]:
            checkpoints = context.root / "training" / job.key
            steps = _total_steps(job, context.collection.splits["train"].queries.ids)
            checkpoints.mkdir(parents=True, exist_ok=True)
            with _progress(checkpoints / CURVE, steps, advance):
                facts = run_training(context, name, job, checkpoints, folder)
            shutil.rmtree(checkpoints, ignore_errors=True)
            return {"name": name, "job": {"ranker": job.ranker, "stages": job.stages}, **facts}

        facts = cached_folder(path, build)
    return Model(job.key, path, facts)


def untuned_model(context: Context, ranker: Spec) -> Model:
    """The ranker as its backbone comes, saved in the workspace."""
    from stillhouse.rankers import RANKERS

    job = make_job(context, ranker, {})
    path = context.root / "models" / job.key

    def build(folder: Path) -> dict[str, Any]:
        RANKERS[job.ranker["ranker"]].from_spec(job.ranker_spec, seed=job.seed).save_pretrained(folder)
        return {"name": "untuned", "job": {"ranker": job.ranker, "stages": {}}}

    return Model(job.key, path, cached_folder(path, build))


def run_training(
    context: Context, name: str, job: TrainingJob, checkpoints: Path, output: Path | None
) -> dict[str, Any]:
    """Train in this process, or under Ray Train where the job asks for workers or GPUs; its facts.

    Without an `output` no ranker is saved.
    """
    scale = job.scale_spec
    if scale.num_workers == 1 and not scale.gpus_per_worker:
        from stillhouse.training.notice import until_sigterm
        from stillhouse.training.run import run_job

        with until_sigterm() as notice:
            return run_job(job, checkpoints, lambda metrics, step: None, output, notice=notice)
    from stillhouse.training.worker import train_distributed, worker_cpus

    context.ray()
    return train_distributed(
        job,
        checkpoint_folder=checkpoints,
        output=output,
        num_workers=scale.num_workers,
        min_workers=scale.min_workers,
        cpus_per_worker=worker_cpus(scale),
        gpus_per_worker=scale.gpus_per_worker,
        name=name.replace(" ", "-"),
    )


@contextmanager
def _progress(curve: Path, total_steps: int, advance: Callable[[float, float, str], None]) -> Iterator[None]:
    """Show the steps that a training, here or on other nodes, writes to its curve file."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            lines = curve.read_text().splitlines() if curve.exists() else []
            if lines:
                # The last line may be half written.
                with suppress(ValueError):
                    point = json.loads(lines[-1])
                    advance(point["step"], total_steps, f"loss {point.get('loss', float('nan')):.4f}")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _total_steps(job: TrainingJob, query_ids: Sequence[str]) -> int:
    total = 0
    for stage in job.stage_specs.values():
        num_queries = len(rows_with_prefix(query_ids, stage.query_prefix))
        steps = stage.epochs * -(-num_queries // stage.queries_per_step)
        total += min(steps, stage.max_steps or steps)
    return total
