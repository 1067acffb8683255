"""FSDP2 against DDP, two workers on this machine: bytes of state per rank, and the time of a step.

    python -m benchmarks.fsdp_vs_ddp [--small] [--ranks 2] [--steps 6]

Each way is a fresh process group (gloo on CPU, NCCL where there are as many GPUs), on the same weights and batches;
state is parameters, gradients and the optimiser's averages, as their tensors hold them on the rank.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.measured import Result, Row, command_of, hand_in, machine, parser_of, spread, versions
from benchmarks.speed_data import bert_base

GOAL = 0.55
QUERIES, DOCS, TOKENS = 4, 8, 64


def main() -> None:
    parser = parser_of(__doc__, "fsdp_vs_ddp")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rank", nargs=3, metavar=("WAY", "BACKBONE", "STEPS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank:
        print(json.dumps(train(options.rank[0], options.rank[1], int(options.rank[2]))))
        return
    hand_in(measure(options.ranks, 2 if options.small else options.steps, small=options.small), options)


def measure(ranks: int, steps: int, *, small: bool) -> Result:
    with tempfile.TemporaryDirectory() as place:
        backbone = "minilm" if small else str(bert_base(Path(place, "bert-base")))
        found: dict[str, list[dict[str, Any]]] = {"ddp": [], "fsdp": []}
        for _ in range(1 if small else 3):
            for way, runs in found.items():
                runs.append(run(way, backbone, steps, ranks))
    state = {way: max(run["state_bytes"] for run in runs) for way, runs in found.items()}
    seconds = {way: [run["step_seconds"] for run in runs] for way, runs in found.items()}
    smaller = state["fsdp"] / state["ddp"]
    slower = statistics.median(seconds["fsdp"]) / statistics.median(seconds["ddp"])
    rows = [
        Row(
            name="state per rank",
            values={way: size / 2**20 for way, size in state.items()},
            unit="MiB",
            ratio=smaller,
            reached=smaller <= GOAL,
        ),
        Row(
            name="a step",
            values={way: statistics.median(each) for way, each in seconds.items()},
            unit="s",
            ratio=slower,
            spread=max(spread(each) for each in seconds.values()),
            reached=slower <= 1.15 if torch.cuda.device_count() >= ranks else None,
        ),
    ]
    backend = "NCCL" if torch.cuda.device_count() >= ranks else "gloo"
    return Result(
        question=f"FSDP2 against DDP, {ranks} workers on one machine",
        command=command_of("fsdp_vs_ddp"),
        goal="state per rank at most 0.55 x; the time of a step at most 1.15 x on several GPUs, stated on a CPU",
        machine=machine(1),
        versions=versions("torch", "transformers"),
        rows=rows,
        about=f"{'MiniLM-L6' if small else 'BERT-base shape'}, {backend}, {QUERIES} queries of {DOCS} documents of "
        f"{TOKENS} tokens a rank",
    )


def run(way: str, backbone: str, steps: int, ranks: int) -> dict[str, float]:
    """The largest state of a rank and the median step of the slowest."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    command = [sys.executable, "-m", "benchmarks.fsdp_vs_ddp", "--rank", way, backbone, str(steps)]
    processes = [
        subprocess.Popen(command, env=settings | {"RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
        for rank in range(ranks)
    ]
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit(f"error: {way}: a rank failed; its words are above")
    parts = [json.loads(output.strip().splitlines()[-1]) for output in outputs]
    return {name: max(part[name] for part in parts) for name in ("state_bytes", "step_seconds")}


def train(way: str, backbone: str, steps: int) -> dict[str, float]:
    """One rank: some steps of the loop's own sharding, gradients averaged and clipped as it does."""
    import torch.distributed as dist
    from torch.distributed.tensor import DTensor

    from stillhouse.rankers import RANKERS
    from stillhouse.recipe.tree import OptimizerSpec
    from stillhouse.training import sharding
    from stillhouse.training.optimizer import clip_gradients, make_optimizer

    many = torch.cuda.device_count() >= int(os.environ["WORLD_SIZE"])
    device = torch.device("cuda", int(os.environ["RANK"])) if many else torch.device("cpu")
    if many:
        torch.cuda.set_device(device)
    torch.set_num_threads(1)
    dist.init_process_group("nccl" if many else "gloo")
    spec = RANKERS["cross_encoder"].spec_class.model_validate({"ranker": "cross_encoder", "backbone": backbone})
    ranker = sharding.build(spec, 0, way, device)  # type: ignore[arg-type]
    module = sharding.shard(ranker, way, device, torch.bfloat16)  # type: ignore[arg-type]
    optimizer = make_optimizer(ranker, OptimizerSpec())
    generator = torch.Generator().manual_seed(dist.get_rank())
    draw = lambda count: torch.randint(1000, 20000, (count,), generator=generator).tolist()  # noqa: E731
    seconds: list[float] = []
    state = 0
    for _ in range(steps):
        batch = ranker.collate([draw(12) for _ in range(QUERIES)], [[draw(TOKENS - 15)] * DOCS for _ in range(QUERIES)])
        dist.barrier()
        start = time.perf_counter()
        with sharding.local_passes(module):
            with torch.autocast(device.type, torch.bfloat16):
                scores_QK = module(batch.to(device))
            torch.log_softmax(scores_QK, -1)[:, 0].mean().neg().backward()
        sharding.average_gradients(module)
        clip_gradients(ranker, OptimizerSpec(), "benchmark")
        optimizer.step()
        held = [*ranker.parameters(), *(one.grad for one in ranker.parameters() if one.grad is not None)]
        held += [value for each in optimizer.state.values() for value in each.values() if torch.is_tensor(value)]
        local = [one.to_local() if isinstance(one, DTensor) else one for one in held]
        state = sum(one.numel() * one.element_size() for one in local)
        optimizer.zero_grad(set_to_none=True)
        dist.barrier()
        seconds.append(time.perf_counter() - start)
    dist.destroy_process_group()
    return {"state_bytes": state, "step_seconds": statistics.median(seconds[1:])}


if __name__ == "__main__":
    main()
