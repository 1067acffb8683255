"""Peak host memory per rank while a large student is built for FSDP2: read whole on every rank, or row by row.

    python -m benchmarks.sharded_loading [--layers 5] [--ranks 2] [--output benchmarks/results/sharded_loading.json]

Writes a checkpoint of random weights in the shape of Qwen2.5-7B, scaled down (same number of heads per group, same
ratio of widths), in several safetensors files. Each measurement is a fresh process group on CPU (gloo); each rank
samples its own memory every few milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.measured import RESULTS, Result, Row, command_of, machine, versions, write_result

MIB = 2**20
# Qwen2.5-7B: hidden 3584, feed-forward 18944, 28 heads, 4 for keys and values, 28 layers, 152,064 words.
WIDTH, FEED_FORWARD, HEADS, KV_HEADS = 1792, 9472, 14, 2
WORDS = 16_384
WAYS = {
    "whole": "whole on every rank, then sharded",
    "rows": "on the meta device, then each rank reads its rows",
    "rows_lora": "the same with LoRA of rank 16",
}


def write_checkpoint(folder: Path, layers: int) -> int:
    """Random weights, bfloat16 as they are published, in files of at most 200 MB; returns the number of parameters."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

    words = {"<pad>": 0, "<eos>": 1, "<unk>": 2} | {f"word{number}": number for number in range(3, WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    config = Qwen2Config(
        vocab_size=WORDS,
        hidden_size=WIDTH,
        intermediate_size=FEED_FORWARD,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="200MB")
    return sum(parameter.numel() for parameter in model.model.parameters())


class Memory:
    """The largest resident memory of this process since the start: all of it, and without pages of mapped files."""

    def __init__(self) -> None:
        self.most = {"total": 0, "anonymous": 0}
        self.start = self.now()
        self.running = True
        self.thread = threading.Thread(target=self._sample, daemon=True)
        self.thread.start()

    def now(self) -> dict[str, int]:
        """Bytes resident, from the kernel."""
        status = Path("/proc/self/status").read_text()
        total, anonymous = (int(re.search(rf"^{key}:\s+(\d+)", status, re.M)[1]) for key in ("VmRSS", "RssAnon"))
        return {"total": total * 1024, "anonymous": anonymous * 1024}

    def _sample(self) -> None:
        while self.running:
            self.look()
            time.sleep(0.002)

    def look(self) -> None:
        for name, value in self.now().items():
            self.most[name] = max(self.most[name], value)

    def stop(self) -> dict[str, int]:
        """Peaks and what is kept, in bytes above the start."""
        self.look()
        self.running = False
        self.thread.join()
        peaks = {f"peak_{name}": self.most[name] - self.start[name] for name in self.most}
        return peaks | {"kept": self.now()["anonymous"] - self.start["anonymous"]}


def measure(folder: str, way: str) -> None:
    """One rank: build and shard the student, print what it took."""
    import gc

    import torch
    import torch.distributed as dist

    from stillhouse.rankers import RANKERS
    from stillhouse.training.sharding import build, shard

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    cpu = torch.device("cpu")
    options = {"lora": {"rank": 16}} if way.endswith("lora") else {}
    if options:
        import peft  # noqa: F401 (its own memory is no part of the student's)
    spec = RANKERS["causal_lm"].spec_class.model_validate({"ranker": "causal_lm", "backbone": folder} | options)
    # What the libraries load at their first use, before the start is measured.
    from transformers import AutoModel, AutoTokenizer, Qwen2Config

    AutoTokenizer.from_pretrained(folder)
    tiny = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1}
    AutoModel.from_config(Qwen2Config(vocab_size=8, intermediate_size=8, **tiny))
    gc.collect()
    dist.barrier()
    memory = Memory()
    started = time.perf_counter()
    ranker = RANKERS["causal_lm"].from_spec(spec) if way == "whole" else build(spec, 0, "fsdp", cpu)
    shard(ranker, "fsdp", cpu)
    dist.barrier()
    seconds = time.perf_counter() - started
    gc.collect()
    print(json.dumps({"seconds": round(seconds, 1), **memory.stop()}))
    dist.destroy_process_group()


def run(folder: Path, way: str, ranks: int) -> list[dict[str, Any]]:
    """What each rank of a fresh process group measured."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    command = [sys.executable, "-m", "benchmarks.sharded_loading", "--measure", way, "--folder", str(folder)]
    processes = [
        subprocess.Popen(command, env=settings | {"RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
        for rank in range(ranks)
    ]
    outputs = [process.communicate(timeout=900)[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"{way}: a rank failed")
    return [json.loads(output.strip().splitlines()[-1]) for output in outputs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS / "sharded_loading.json")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.folder, options.measure)
        return
    with tempfile.TemporaryDirectory() as place:
        parameters = write_checkpoint(Path(place), options.layers)
        files = sorted(file.stat().st_size for file in Path(place).glob("*.safetensors"))
        ways = {way: run(Path(place), way, options.ranks) for way in WAYS}
    facts = {
        "parameters": parameters,
        "float32_bytes": parameters * 4,
        "checkpoint": {"files": len(files), "bytes": sum(files), "dtype": "bfloat16"},
        "ranks": options.ranks,
        "backend": "gloo, CPU",
        "ways": {way: {"ranks": found} for way, found in ways.items()},
    }
    write_result(result_of(options.layers, facts), options.output)


def result_of(layers: int, facts: dict[str, Any]) -> Result:
    """The table: of each figure the largest of the ranks."""
    part = facts["float32_bytes"] / facts["ranks"] / MIB
    rows = []
    for way, told in WAYS.items():
        ranks = facts["ways"][way]["ranks"]
        peak, anonymous, kept = (
            max(rank[key] for rank in ranks) / MIB for key in ("peak_total", "peak_anonymous", "kept")
        )
        values = {"peak MiB": peak, "peak without mapped file pages": anonymous, "kept": kept}
        seconds = max(rank["seconds"] for rank in ranks)
        reached = None if way == "whole" else anonymous < 1.1 * part
        rows.append(Row(name=told, values=values | {"seconds": seconds}, reached=reached))
    return Result(
        question="Building a large student: host memory per rank",
        about=f"A Qwen2 of {facts['parameters'] / 1e6:.0f} million parameters in the shape of Qwen2.5-7B (half its "
        f"width, {layers} of its 28 layers, {WORDS:,} words), random weights in bfloat16 in "
        f"{facts['checkpoint']['files']} safetensors files; {facts['ranks']} ranks, gloo. Memory in MiB above the "
        "start of each rank, the largest of them. In float32, as it trains, the student is "
        f"{facts['float32_bytes'] / MIB:,.0f} MiB, a rank's part of it {part:,.0f} MiB.",
        goal="a rank's peak is its own part of the student and at most 10 % more",
        command=command_of("sharded_loading"),
        machine=machine(threads=1),
        versions=versions("torch", "transformers", "peft"),
        rows=rows,
        **facts,
    )


if __name__ == "__main__":
    main()
