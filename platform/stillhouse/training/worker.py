"""The adapter to Ray Train: the same training on several workers. The only file that knows `ray.train`."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stillhouse.artifacts import write_json
from stillhouse.errors import TrainingError
from stillhouse.recipe.tree import ScaleSpec
from stillhouse.training import ranks
from stillhouse.training.job import TrainingJob
from stillhouse.training.notice import Notice

logger = logging.getLogger(__name__)

RESULT = "result.json"
PLACES = "places"
"""In a report: the placement group of the workers, in hexadecimal."""
WAITING_CPUS = 0.05
"""CPUs of a node that trials may take which only wait for their workers."""
NOTICE_S = 2.0
"""How often workers ask whether one of their nodes is about to be taken away: the question goes over the network."""


def train_distributed(
    job: TrainingJob,
    *,
    checkpoint_folder: Path,
    output: Path | None,
    num_workers: int,
    min_workers: int | None = None,
    cpus_per_worker: float,
    gpus_per_worker: float,
    name: str,
    callbacks: list[Any] | None = None,
    max_failures: int = 2,
) -> dict[str, Any]:
    """Run a job under Ray Train with one process per worker; returns what `run_job` returned on rank 0.

    A worker that dies is started again, with all others, from the newest complete checkpoint. With `min_workers` as
    many go on as the nodes that are left hold, and more when nodes join. A node that is drained may be lost as often as
    it likes; other failures `max_failures` times.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    resources = {"CPU": cpus_per_worker} | ({"GPU": gpus_per_worker} if gpus_per_worker else {})
    config = {
        "job": asdict(job),
        "checkpoints": str(checkpoint_folder),
        "output": str(output) if output else None,
        "threads": max(1, int(cpus_per_worker)),
        "gpu": gpus_per_worker > 0,
    }
    # Ray Train keeps its own bookkeeping under a storage path; results and checkpoints of ours lie elsewhere.
    storage = checkpoint_folder / "ray_train"
    shutil.rmtree(storage, ignore_errors=True)
    trainer = TorchTrainer(
        _worker,
        train_loop_config=config,
        torch_config=TorchConfig(backend="nccl" if gpus_per_worker else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=num_workers if min_workers is None else (min_workers, num_workers),
            use_gpu=gpus_per_worker > 0,
            resources_per_worker=resources,
        ),
        run_config=RunConfig(
            name=name,
            storage_path=str(storage.resolve()),
            failure_config=FailureConfig(max_failures=max_failures),
            callbacks=callbacks or [],
        ),
    )
    (checkpoint_folder / RESULT).unlink(missing_ok=True)
    try:
        trainer.fit()
    except Exception as error:
        raise TrainingError(f"training {name} failed: {_first_cause(error)}") from error
    return dict(json.loads((checkpoint_folder / RESULT).read_text()))


def _worker(config: dict[str, Any]) -> None:
    """What each Ray Train worker runs."""
    import ray.train
    import ray.util
    import torch

    from stillhouse.training.run import run_job

    torch.set_num_threads(config["threads"])
    folder = Path(config["checkpoints"])
    context = ray.train.get_context()
    group = ray.util.get_current_placement_group()
    # For a search, which has to give them back when it stops this training.
    places = {} if group is None else {PLACES: group.id.hex()}

    def report(metrics: dict[str, float], step: int) -> None:
        # The newest progress file is what our own checkpoint holds; Ray's copy makes the metrics count.
        with tempfile.TemporaryDirectory() as place:
            checkpoint = None
            if context.get_world_rank() == 0:
                Path(place, "metrics.json").write_text(json.dumps({"step": step, **metrics}))
                checkpoint = ray.train.Checkpoint.from_directory(place)
            ray.train.report({"step": step, **metrics, **places}, checkpoint=checkpoint)

    output = Path(config["output"]) if config["output"] else None
    # Without a GPU of its own a worker may still see one: several ranks on it cannot talk by gloo.
    device = None if config["gpu"] else torch.device("cpu")
    result = run_job(TrainingJob(**config["job"]), folder, report, output, device, notice=DrainNotice())
    if ranks.rank() == 0:
        write_json(folder / RESULT, result)


class DrainNotice(Notice):
    """Ray's word that the node of a worker is drained: a spot machine that is reclaimed, a node scaled away.

    Training goes on after the checkpoint: at the node's end Ray Train starts all workers again, from there.
    """

    def __init__(self) -> None:
        self.next = time.monotonic() + NOTICE_S
        self.told = False

    def given(self) -> bool:
        # Clocks differ: all ranks ask when one of them finds it time.
        if self.told or not ranks.on_any(time.monotonic() >= self.next):
            return False
        import ray.train

        self.next = time.monotonic() + NOTICE_S
        self.told = ray.train.get_preemption_info() is not None
        return self.told

    def saved(self, step: int) -> None:
        if ranks.rank() == 0:
            logger.warning("a node of this training is drained: the checkpoint of step %d is kept", step)


def in_trial(
    job: TrainingJob,
    checkpoint_folder: Path,
    report: Callable[[dict[str, float], int], None],
    output: Path | None = None,
    *,
    costs: bool = False,
) -> None:
    """Train inside a Tune trial: directly in the trial's process, or nested on several workers.

    With `output` the ranker is saved there when the training has come to its end.
    A nested run forwards its (already reduced) metrics to Tune by Ray's own callback, so `report` is not used then.
    `costs` are measured in trials of one worker only, which `search.check_space` sees to.
    """
    from stillhouse.training.run import run_job

    workers = job.scale_spec.num_workers
    if workers == 1:
        _say_again(checkpoint_folder, report)
        run_job(job, checkpoint_folder, report, output, costs=costs)
        return
    from ray.tune.integration.ray_train import TuneReportCallback

    train_distributed(
        job,
        checkpoint_folder=checkpoint_folder,
        output=output,
        num_workers=workers,
        min_workers=job.scale_spec.min_workers,
        cpus_per_worker=worker_cpus(job.scale_spec, WAITING_CPUS),
        gpus_per_worker=job.scale_spec.gpus_per_worker,
        name=f"trial-{checkpoint_folder.name}",
        callbacks=[TuneReportCallback()],
    )


def _say_again(folder: Path, report: Callable[[dict[str, float], int], None]) -> None:
    """Report the evaluations up to the newest checkpoint: a kill may have come between the two."""
    from stillhouse.training import checkpoints
    from stillhouse.training.evaluations import read_metrics

    found = checkpoints.newest(folder)
    for step, metrics in read_metrics(folder) if found else ():
        if found and step <= found[1].total_step:
            report(metrics, step)


def worker_cpus(scale: ScaleSpec, reserve: float = 0.0) -> float:
    """CPUs of one worker: the recipe's, or what the connected cluster's nodes can give all workers.

    `reserve` stays free on each node. Whole CPUs above one, as Ray wants them.
    """
    import ray

    if scale.cpus_per_worker is not None:
        return scale.cpus_per_worker
    if scale.num_workers == 1 and reserve:
        return 1.0
    nodes = [node["Resources"].get("CPU", 0.0) - reserve for node in ray.nodes() if node["Alive"]]
    # Where nodes are still to come, the least number of workers has to fit.
    for wanted in (scale.num_workers, scale.min_workers or scale.num_workers):
        for share in (64, 32, 16, 8, 4, 3, 2, 1, 0.95, 0.5, 0.25):
            if sum(int(node / share) for node in nodes if node > 0) >= wanted:
                return float(share)
    return 1.0


def _first_cause(error: BaseException) -> str:
    """The innermost message, on one line: Ray wraps it in pages of traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "Error: " in line and not line.startswith(("File", "ray.exceptions"))]
    return (named[-1] if named else lines[-1] if lines else type(error).__name__)[:500]
