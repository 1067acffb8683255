"""Run a training job in this process, on this rank: the part that one worker and many share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from stillhouse.rankers import lora, mlm_head
from stillhouse.rankers.base import Ranker
from stillhouse.rankers.processor import bound_kernel_caches, keep_freed_memory, multiplies_bfloat16
from stillhouse.training import checkpoints, evaluations, ranks, sharding
from stillhouse.training.job import Report, TrainingJob, load_data
from stillhouse.training.loop import Trainer
from stillhouse.training.notice import Notice
from stillhouse.training.rules import check_stages
from stillhouse.training.step import mask_losses


def pick_device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def pick_dtype(dtype: Literal["auto", "float32", "bfloat16"], device: torch.device) -> torch.dtype:
    """`auto`: bfloat16 where the hardware multiplies it natively, float32 elsewhere."""
    if dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if multiplies_bfloat16() else torch.float32


def run_job(
    job: TrainingJob,
    checkpoint_folder: Path,
    report: Report,
    output: Path | None = None,
    device: torch.device | None = None,
    costs: bool = False,
    notice: Notice | None = None,
) -> dict[str, Any]:
    """Train all stages, from the newest complete checkpoint in `checkpoint_folder` if there is one.

    Every rank calls it. With `output`, rank 0 saves the ranker there. `device` None: the GPU,
    if there is one. `costs`: the last report has what `costs.measure_costs` gives; one rank only.
    A `notice` that the machine goes away is answered with a checkpoint. Returns the best dev value and the steps.
    """
    if ranks.rank() == 0:
        checkpoint_folder.mkdir(parents=True, exist_ok=True)
    ranks.barrier()
    check_stages(
        job.stage_specs,
        job.ranker["ranker"],
        taught=job.teacher_scores is not None,
        live=bool(job.teacher_models),
        place="stages",
    )
    device = device or pick_device()
    if device.type == "cpu":
        bound_kernel_caches()
        keep_freed_memory()
    dtype = pick_dtype(job.scale_spec.dtype, device)
    masking = any(mask_losses(stage) for stage in job.stage_specs.values())
    # The masked-LM head is tied to the word embeddings: they have to be there when it is made.
    ranker = sharding.build(job.ranker_spec, job.seed, "none" if masking else job.scale_spec.sharding, device)
    if masking:
        mlm_head.attach(ranker, job.seed)
    module = sharding.shard(ranker, job.scale_spec.sharding, device, dtype)
    data = load_data(job, ranker)
    notice = notice or Notice()
    trainer = Trainer(job, data, ranker, module, device, dtype, checkpoint_folder, report, costs, notice)
    metrics: dict[str, float] = {}
    for index, (name, stage) in enumerate(job.stage_specs.items()):
        if _stage_is_behind(trainer, index):
            continue
        metrics = trainer.train_stage(index, name, stage)
    if output is not None:
        _save(job, ranker, output, checkpoint_folder)
    return {**metrics, "steps": trainer.progress.total_step, "best_step": trainer.progress.best_step}


def _stage_is_behind(trainer: Trainer, index: int) -> bool:
    """True where a checkpoint of a later stage exists: its weights contain this stage's work."""
    found = checkpoints.newest(trainer.checkpoint_folder)
    return found is not None and found[1].stage > index


def _save(job: TrainingJob, ranker: Ranker, output: Path, checkpoint_folder: Path) -> None:
    sharded = sharding.is_sharded(ranker)
    whole = sharding.whole_copy(ranker, job.ranker_spec, job.seed) if sharded else ranker
    if whole is not None and ranks.rank() == 0:
        whole = whole.to("cpu")
        whole.detach_head(mlm_head.HEAD)
        card = lora.describe(whole)
        # For good: `save_pretrained` would keep the weights without adapters beside the merged ones.
        lora.fold(whole)
        whole.save_pretrained(output, card)
        evaluations.keep(checkpoint_folder, output)
    ranks.barrier()
