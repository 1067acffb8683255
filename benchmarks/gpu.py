"""Scoring and training throughput on an accelerator, as a share of its matrix rate; torch and transformers only.

    python benchmarks/gpu.py [--toy] [--models bert-base,0.5b,7b] [--output benchmarks/results/gpu.json]

Random weights in the shapes of BERT-base (a cross-encoder that reads the first token), Qwen2.5-0.5B and Qwen2.5-7B
(pointwise rerankers that read the last token), bfloat16. Needs neither Ray nor stillhouse, so that it runs on a bare
machine; `--toy` is the same at toy size on a CPU. The matrix rate is the best of 5 timings of each shape.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


@dataclass(frozen=True)
class Model:
    """A shape, the rows of a scoring batch and of a training step, tokens in a row."""

    kind: str
    layers: int
    width: int
    feed_forward: int
    heads: int
    kv_heads: int
    words: int
    score_rows: int
    train_rows: int
    tokens: int

    def products(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of the linear layers of one block."""
        size = self.width // self.heads
        kv = self.kv_heads * size
        own = [(self.width, self.width), (self.width, kv), (self.width, kv), (self.width, self.width)]
        gated = 2 if self.kind == "causal" else 1
        return own + [(self.width, self.feed_forward)] * gated + [(self.feed_forward, self.width)]


MODELS = {
    "bert-base": Model("encoder", 12, 768, 3072, 12, 12, 30522, 512, 256, 256),
    "0.5b": Model("causal", 24, 896, 4864, 14, 2, 151936, 256, 64, 256),
    "7b": Model("causal", 28, 3584, 18944, 28, 4, 152064, 64, 16, 256),
}
TOY = {
    "bert-toy": Model("encoder", 2, 32, 64, 4, 4, 100, 4, 2, 16),
    "causal-toy": Model("causal", 2, 32, 64, 4, 2, 100, 4, 2, 16),
}
STATE_BYTES = 16
"""A parameter with its gradient and Adam's two averages in float32."""


class Reranker(nn.Module):
    """A backbone and one linear layer over the first or the last token, float32 scores [P]."""

    def __init__(self, model: Model, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        from transformers import AutoModel, BertConfig, Qwen2Config

        sizes = {
            "hidden_size": model.width,
            "num_hidden_layers": model.layers,
            "num_attention_heads": model.heads,
            "intermediate_size": model.feed_forward,
            "vocab_size": model.words,
            "max_position_embeddings": max(512, model.tokens),
        }
        if model.kind == "encoder":
            config: Any = BertConfig(**sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        else:
            config = Qwen2Config(**sizes, num_key_value_heads=model.kv_heads, use_cache=False)
        with torch.device(device):
            self.backbone = AutoModel.from_config(config, dtype=dtype, attn_implementation="sdpa")
            self.head = nn.Linear(model.width, 1, dtype=torch.float32)
        self.place = 0 if model.kind == "encoder" else -1

    def forward(self, ids_PL: Tensor) -> Tensor:
        hidden_PD = self.backbone(input_ids=ids_PL).last_hidden_state[:, self.place]
        with torch.autocast(ids_PL.device.type, enabled=False):
            scores_P1: Tensor = self.head(hidden_PD.float())
        return scores_P1[:, 0]

    def blocks(self) -> list[nn.Module]:
        found = [one for one in self.backbone.modules() if isinstance(one, nn.ModuleList)]
        return list(max(found, key=len))


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timings(call: Callable[[], object], device: torch.device, repeats: int, warm: int = 2) -> list[float]:
    """Seconds of each call, with the device's queue empty before and after."""
    for _ in range(warm):
        call()
    seconds = []
    for _ in range(repeats):
        wait(device)
        start = time.perf_counter()
        call()
        wait(device)
        seconds.append(time.perf_counter() - start)
    return seconds


def rate_of(rows: int, inputs: int, outputs: int, device: torch.device) -> float:
    """FLOP/s of a linear layer in bfloat16, best of 5."""
    x = torch.randn(rows, inputs, device=device, dtype=torch.bfloat16)
    weight = torch.randn(outputs, inputs, device=device, dtype=torch.bfloat16)
    return 2.0 * rows * inputs * outputs / min(timings(lambda: linear(x, weight), device, 5))


def forward_flop(model: Model, rows: int) -> float:
    """Of the linear layers and the two products of attention (a causal mask leaves half of those to do)."""
    tokens = rows * model.tokens
    linears = sum(2.0 * tokens * inputs * outputs for inputs, outputs in model.products())
    attention = 4.0 * tokens * model.tokens * model.width * (0.5 if model.kind == "causal" else 1.0)
    return model.layers * (linears + attention)


def seconds_at_limit(model: Model, rows: int, device: torch.device) -> float:
    """The linear layers of a forward at the rate of each shape, attention at their mean rate."""
    tokens = rows * model.tokens
    work = [(2.0 * tokens * i * o, rate_of(tokens, i, o, device)) for i, o in model.products()]
    linears = sum(flop / rate for flop, rate in work)
    total = sum(flop for flop, _ in work)
    attention = forward_flop(model, rows) / model.layers - total
    return model.layers * (linears + attention * linears / total)


def peak(device: torch.device) -> int | None:
    """Bytes that tensors took at most since the last reset."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def reset(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def scoring(model: Model, device: torch.device, repeats: int) -> dict[str, Any]:
    """Pairs per second and share of the matrix rate."""
    reset(device)
    ranker = Reranker(model, device, torch.bfloat16).eval()
    ids_PL = torch.randint(0, model.words, (model.score_rows, model.tokens), device=device)
    with torch.inference_mode():
        seconds = timings(lambda: ranker(ids_PL), device, repeats)
    return summary(seconds, model.score_rows, seconds_at_limit(model, model.score_rows, device), device)


def training(model: Model, device: torch.device, repeats: int, *, sharded: bool) -> dict[str, Any]:
    """Steps with groups of 8: forward, backward, clip, AdamW; float32 weights, bfloat16 products.

    `sharded` wraps every block by FSDP2 in a group of one process; plain uses autocast.
    """
    reset(device)
    ranker: Any = Reranker(model, device, torch.float32).train()
    if sharded:
        shard(ranker, device)
    optimizer = torch.optim.AdamW(ranker.parameters(), lr=1e-5, fused=True)
    ids_PL = torch.randint(0, model.words, (model.train_rows, model.tokens), device=device)
    width = min(8, model.train_rows)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=not sharded or device.type == "cpu"):
            scores_QK = ranker(ids_PL).view(-1, width)
        torch.log_softmax(scores_QK, -1)[:, 0].mean().neg().backward()
        nn.utils.clip_grad_norm_(ranker.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    seconds = timings(step, device, repeats)
    # A backward pass multiplies twice what the forward did.
    found = summary(seconds, model.train_rows, 3 * seconds_at_limit(model, model.train_rows, device), device)
    return found | {"groups_per_second": found["pairs_per_second"] / width}


def shard(ranker: Any, device: torch.device) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device.type, (1,))
    param_dtype = torch.bfloat16 if device.type == "cuda" else None
    precision = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=torch.float32)
    for block in ranker.blocks():
        fully_shard(block, mesh=mesh, mp_policy=precision)
    fully_shard(ranker, mesh=mesh, mp_policy=precision, reshard_after_forward=False)


def summary(seconds: list[float], pairs: int, limit: float, device: torch.device) -> dict[str, Any]:
    median = statistics.median(seconds)
    return {
        "pairs_per_second": pairs / median,
        "share_of_matrix_rate": limit / median,
        "spread": (max(seconds) - min(seconds)) / median,
        "peak_bytes": peak(device),
    }


def room_to_train(model: Model, device: torch.device) -> bool:
    """Whether weights, gradients and optimiser state leave a quarter of the device for activations."""
    if device.type != "cuda":
        return True
    block = sum(inputs * outputs for inputs, outputs in model.products())
    parameters = model.layers * block + model.words * model.width
    return STATE_BYTES * parameters < 0.75 * torch.cuda.get_device_properties(device).total_memory


def measure(models: dict[str, Model], device: torch.device, repeats: int) -> list[dict[str, Any]]:
    """A row for each model and way; a way that does not fit says so."""
    rows = []
    for name, model in models.items():
        ways: dict[str, Callable[[], dict[str, Any]]] = {
            "scoring": lambda model=model: scoring(model, device, repeats),
            "training": lambda model=model: training(model, device, repeats, sharded=False),
            "training, FSDP2": lambda model=model: training(model, device, repeats, sharded=True),
        }
        for way, run in ways.items():
            if way != "scoring" and not room_to_train(model, device):
                rows.append({"name": f"{name}, {way}", "values": {"state does not fit this device": None}})
                continue
            found = run()
            rows.append(
                {
                    "name": f"{name}, {way}",
                    "values": {key: value for key, value in found.items() if key not in ("spread",)},
                    "unit": "pairs/s",
                    "ratio": found["share_of_matrix_rate"],
                    "spread": found["spread"],
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def start_group(device: torch.device) -> None:
    """A process group of one, which FSDP2 needs."""
    import torch.distributed as dist

    if not dist.is_initialized():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": "0", "WORLD_SIZE": "1"}
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--toy", action="store_true", help="tiny models on a CPU: the logic alone")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "gpu.json")
    options = parser.parse_args(arguments)
    if not options.toy and not torch.cuda.is_available():
        sys.exit("error: no GPU that torch sees; --toy runs the same at toy size on a CPU")
    device = torch.device("cpu" if options.toy else "cuda")
    unknown = set(options.models.split(",")) - MODELS.keys()
    if unknown:
        sys.exit(f"error: --models: {sorted(unknown)[0]!r} is none of {', '.join(MODELS)}")
    models = TOY if options.toy else {name: MODELS[name] for name in options.models.split(",")}
    start_group(device)
    torch.manual_seed(0)
    rows = measure(models, device, 2 if options.toy else options.repeats)
    result = {
        "question": "Scoring and training on one accelerator",
        "command": " ".join(["python", "benchmarks/gpu.py", *(sys.argv[1:] if arguments is None else arguments)]),
        "goal": "measured: share of the device's matrix rate; FSDP2 on one device against plain",
        "machine": {"device": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()},
        "versions": {name: metadata.version(name) for name in ("torch", "transformers")}
        | {"python": platform.python_version(), "cuda": torch.version.cuda or "none"},
        "rows": rows,
        "about": "random weights, bfloat16, rows of equal length",
        "shapes": {name: asdict(model) for name, model in models.items()},
        "notes": ["Attention counts at the mean rate of the linear layers."],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(options.output)


if __name__ == "__main__":
    main()
