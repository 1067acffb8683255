"""What a job of MS MARCO's size takes on 8 to 256 GPUs: arithmetic from stated assumptions, no measurement.

`python -m benchmarks.page docs` puts `section()` at the end of docs/performance.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measured import RESULTS, read_result
from stillhouse.markdown import markdown_table
from stillhouse.scores.plan import shard_size

PAIRS, PASSAGES, QUERIES = 40_000_000, 8_841_823, 502_939
"""MS MARCO: about as many pairs as its small triples (arXiv:2010.02666, section 3), passages, judged train queries."""
GPUS = (8, 16, 32, 64, 128, 256)
PARTITIONS = 16

# Assumptions. Change them here; the page follows.
PEAK = 312e12
"""bfloat16 operations a second of one GPU: the A100's data sheet."""
PRICE = 2.0
"""Dollars for one GPU and hour."""
START_S = 90.0
"""Until an actor's first batch: process, libraries, weights from storage."""
TOKENS_PER_PASSAGE, BYTES_PER_PASSAGE = 75, 340
QUERY_TOKENS, SPECIAL_TOKENS = 8, 3
CAPS = 64 + 256
"""The default caps of query and document."""
STORE_BYTES = 35.0
"""A stored pair, where no measurement of this repository says otherwise."""
ITEM_BYTES = 8
"""Two row numbers: what Ray carries to an actor for a pair."""
VECTOR = 768


@dataclass(frozen=True)
class Model:
    name: str
    weights: float
    """In the blocks: two operations each for a token."""
    share: float
    """Of the peak that scoring short texts reaches: narrow layers keep a GPU waiting."""

    @property
    def pair_operations(self) -> float:
        return 2 * self.weights * (TOKENS_PER_PASSAGE + QUERY_TOKENS + SPECIAL_TOKENS)

    @property
    def pairs_per_second(self) -> float:
        """Of one GPU."""
        return PEAK * self.share / self.pair_operations

    @property
    def shard(self) -> int:
        return shard_size(int(self.weights), CAPS, "cuda")

    @property
    def shards(self) -> int:
        """Each partition is cut on its own, so that its last shard is a smaller one."""
        return PARTITIONS * math.ceil(PAIRS / PARTITIONS / self.shard)


# 12 layers of 12 D^2; 6 layers of 12 D^2; Qwen2.5-7B without its word embeddings.
MODELS = (Model("MiniLM-L6", 10.6e6, 0.1), Model("BERT-base", 85e6, 0.3), Model("7B language model", 6.5e9, 0.5))
TITAN_PAIRS = 1000 / 0.950 / 2
"""Pairs a second of BERT-base on a TITAN RTX: the 6 layers of DistilBERT_CAT rank 1,000 passages in 950 ms
(arXiv:2010.02666, table 1), and 12 layers take twice as long."""


@dataclass(frozen=True)
class Job:
    model: Model
    gpus: int

    @property
    def work_s(self) -> float:
        return PAIRS / self.gpus / self.model.pairs_per_second

    @property
    def tail_s(self) -> float:
        """Half a shard: on average the last one of each GPU ends that long before the last of all."""
        return self.model.shard / self.model.pairs_per_second / 2

    @property
    def hours(self) -> float:
        return (START_S + self.work_s + self.tail_s) / 3600

    @property
    def dollars(self) -> float:
        return self.hours * self.gpus * PRICE

    @property
    def used(self) -> float:
        """The share of the paid time in which GPUs score."""
        return self.work_s / 3600 / self.hours

    @property
    def shards_per_second(self) -> float:
        """What the driver hands out and notes."""
        return self.gpus * self.model.pairs_per_second / self.model.shard


def measured_bytes(results: Path = RESULTS) -> dict[str, float]:
    """Store and driver bytes of one pair more, from the growth benchmark; what it has not measured is left out."""
    file = results / "scoring_growth.json"
    if not file.is_file():
        return {}
    found = (read_result(file).model_extra or {})["measured"]
    (small, before), (large, last) = sorted((int(size), one) for size, one in found.items())[-2:]
    driver = (last["driver_bytes"] - before["driver_bytes"]) / (large - small)
    return {"store": last["columns"]["store bytes a pair"], "driver": max(driver, 0.0)}


def section(results: Path = RESULTS) -> str:
    """The page's last section."""
    bytes_of = measured_bytes(results)
    return (
        "\n## Sizing: MS MARCO on 8 to 256 GPUs, on paper\n\n"
        + _assumptions(bytes_of)
        + "\n"
        + _table(*_models(bytes_of.get("store", STORE_BYTES)))
        + "\n"
        + _table(*_jobs())
        + "\n"
        + _breaks(bytes_of)
        + "\n`benchmarks/sizing.py` holds the assumptions and computes this section.\n"
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(markdown_table(header, rows)) + "\n"


def _assumptions(bytes_of: Mapping[str, float]) -> str:
    stored = f"{bytes_of['store']:.0f} bytes (measured above)" if bytes_of else f"{STORE_BYTES:.0f} bytes (assumed)"
    shares = ", ".join(f"{model.name} {model.share:.0%}" for model in MODELS)
    return (
        f"Nothing here was run. {PAIRS / 1e6:.0f} million pairs, {PASSAGES:,} passages, {QUERIES:,} queries, "
        f"{PARTITIONS} partitions. Assumed: a GPU of {PEAK / 1e12:.0f} bfloat16 TFLOP/s, of which scoring reaches "
        f"a part ({shares}); two operations for each weight of the blocks and each token; {TOKENS_PER_PASSAGE} tokens "
        f"and {BYTES_PER_PASSAGE} bytes a passage, {QUERY_TOKENS} tokens a query; {START_S:.0f} s until an actor's "
        f"first batch; {PRICE:.2f} dollars a GPU hour; {stored} a stored pair. Published, for comparison: BERT-base at "
        f"{TITAN_PAIRS:,.0f} pairs/s on a TITAN RTX of 2018 (half of DistilBERT_CAT's 1,000 passages in 950 ms, "
        "arXiv:2010.02666, table 1).\n"
    )


def _models(store_bytes: float) -> tuple[list[str], list[list[str]]]:
    head = ["teacher", "pairs/s a GPU", "pairs a shard", "seconds a shard", "shards", "MB a file", "GB of store"]
    rows = [
        [
            model.name,
            f"{model.pairs_per_second:,.0f}",
            f"{model.shard:,}",
            f"{model.shard / model.pairs_per_second:.1f}",
            f"{model.shards:,}",
            f"{model.shard * store_bytes / 1e6:.2f}",
            f"{PAIRS * store_bytes / 1e9:.1f}",
        ]
        for model in MODELS
    ]
    return head, rows


def _jobs() -> tuple[list[str], list[list[str]]]:
    head = ["teacher and GPUs", "hours", "dollars", "time that scores", "shards a second"]
    rows = []
    for model in MODELS:
        for gpus in GPUS:
            job = Job(model, gpus)
            cells = [f"{job.hours:.2f}", f"{job.dollars:,.0f}", f"{job.used:.0%}", f"{job.shards_per_second:.1f}"]
            rows.append([f"{model.name}, {gpus}", *cells])
    return head, rows


def _breaks(bytes_of: Mapping[str, float]) -> str:
    small, bert, large = MODELS
    crowd = Job(bert, 256)
    driver = (
        f"{bytes_of['driver'] * PAIRS / 1e9:.1f} GB more ({bytes_of['driver']:.0f} bytes a pair, measured above)"
        if bytes_of
        else "an amount that scoring_growth measures"
    )
    ids, texts = PASSAGES * TOKENS_PER_PASSAGE * 4 / 1e9, PASSAGES * BYTES_PER_PASSAGE / 1e9
    file_kb = large.shard * bytes_of.get("store", STORE_BYTES) / 1e3
    encoding_h = PASSAGES * 2 * bert.weights * TOKENS_PER_PASSAGE / (PEAK * bert.share) / 3600
    return (
        "What breaks first, in this order:\n\n"
        f"1. **The start, for small teachers.** BERT-base on 256 GPUs scores for {crowd.work_s:.0f} s and starts for "
        f"{START_S:.0f} s: {crowd.used:.0%} of the paid time scores; a 7B teacher {Job(large, 256).used:.0%}.\n"
        f"2. **The Python process beside a fast GPU.** {small.pairs_per_second:,.0f} pairs/s leave "
        f"{1e6 / small.pairs_per_second:.0f} microseconds to gather and pad a pair; give such a GPU two actors "
        "(`store.actors` at twice the GPUs).\n"
        f"3. **Reading the collection.** A node maps {ids:.1f} GB of token ids and {texts:.1f} GB of texts, once for "
        "all its actors; storage serves that to every node at the start.\n"
        f"4. **The driver.** It hands out and notes {crowd.shards_per_second:.0f} shards/s for BERT-base on 256 GPUs, "
        f"needs {driver}, and the plan goes through Ray's object store whole: {PAIRS * ITEM_BYTES / 1e9:.2f} GB at "
        f"{ITEM_BYTES} bytes a pair.\n"
        f"5. **Small files, for large teachers.** {large.shards:,} files of {file_kb:.0f} kB, "
        f"{large.shards // PARTITIONS:,} a folder, which is listed for every shard; `stillhouse scores gc` joins "
        "them.\n"
        f"\nEncoding the {PASSAGES:,} passages with a BERT-base dual encoder takes {encoding_h:.2f} GPU hours by the "
        f"same rates; {VECTOR} numbers a passage are {PASSAGES * VECTOR * 2 / 1e9:.1f} GB in float16.\n"
    )
