"""Training, groups per second (K = 8), against the trainers of sentence-transformers and PyLate.

    python -m benchmarks.training_speed [--small] [--threads 2] [--workspace .stillhouse]

Both sides train the same start weights on the same groups of `pydocs`, in turn; the rate is that between the ends of
the first and the last step, so nothing of the start counts. Each peer's training is a process of its own. The trainers
of sentence-transformers need `sentence-transformers[train]`: STILLHOUSE_PEER_PYTHON names the interpreter of an
environment with it (else this one is taken), STILLHOUSE_PYLATE_PYTHON that of one with PyLate.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import training_peers
from benchmarks.measured import Result, Row, command_of, hand_in, machine, parser_of, spread, versions
from benchmarks.speed_data import DOC_CAP, QUERY_CAP, Data, open_data, training_job
from benchmarks.training_data import groups_as_texts, stage_of, step_times, teacher_file
from stillhouse.evaluation.measures import named_qrels, per_query
from stillhouse.evaluation.rerank import rerank
from stillhouse.rankers import RANKERS, load_ranker
from stillhouse.rankers.backbones import resolve
from stillhouse.rankers.export import export
from stillhouse.training.run import run_job

NDCG_TOLERANCE = 0.005
CAPS = {"query_max_length": QUERY_CAP, "doc_max_length": DOC_CAP}
PEERS: dict[str, dict[str, str]] = {}
"""Versions in the peers' environments, by what they trained."""
DEFAULTS = "defaults: cross-encoder, ours against theirs"
KL, MARGIN = {"name": "kl", "temperature": 1.0}, {"name": "margin_mse"}


@dataclass(frozen=True)
class Case:
    """One comparison: what is trained, and how both sides are set."""

    name: str
    kind: str
    ranker: dict[str, Any]
    loss: dict[str, Any]
    goal: float
    bfloat16: bool = True
    dropout: float = 0.0
    peer: str = ""
    batch: int = 8

    @property
    def options(self) -> dict[str, Any]:
        """Of our ranker."""
        freeze = {"freeze_word_embeddings": True}
        return {"ranker": self.kind, "backbone": "minilm", "dropout": self.dropout, **CAPS, **freeze, **self.ranker}


COLBERT = {"projection_dim": 128, "similarity": "cosine", "num_mask_tokens": 0}
CASES = [
    Case("cross-encoder, MarginMSE, bfloat16, dropout 0", "cross_encoder", {}, MARGIN, 1.6),
    Case("dual encoder, MarginMSE, bfloat16", "dual_encoder", {}, MARGIN, 2.0),
    Case("ColBERT, KL, bfloat16, against MultiVectorEncoderTrainer", "colbert", COLBERT, KL, 2.0),
    Case("ColBERT, KL, bfloat16, against PyLate Distillation", "colbert", COLBERT, KL, 2.0, peer="pylate"),
    Case("cross-encoder, MarginMSE, bfloat16, dropout 0.1", "cross_encoder", {}, MARGIN, 1.6, dropout=0.1),
    Case("cross-encoder, MarginMSE, float32, dropout 0", "cross_encoder", {}, MARGIN, 1.6, bfloat16=False),
]


def main() -> None:
    parser = parser_of(__doc__, "training_speed")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workspace", type=Path, default=Path(".stillhouse"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = open_data(options.workspace, small=options.small)
    steps, repeats = (3, 1) if options.small else (9, 2)
    batch = 2 if options.small else 8
    asked = {
        case.name: lambda case=case: compare(data, replace(case, batch=batch), steps, repeats, options.threads)
        for case in CASES
    }
    long, seeds = (3, 1) if options.small else (50, 3)
    asked[DEFAULTS] = lambda: defaults(data, batch, long, seeds, options.threads)
    asked = {name: measure for name, measure in asked.items() if options.only in name}
    rows = {name: Row(name=name, unit="groups/s", values={"not measured: it was stopped": None}) for name in asked}
    for name, measure in asked.items():
        rows[name] = measure()
        # After each: all of it takes most of an hour.
        hand_in(result(list(rows.values()), batch, repeats, long, options.threads), options)


def result(rows: list[Row], batch: int, repeats: int, long: int, threads: int) -> Result:
    """The rows with what the page says around them."""
    return Result(
        question="Training, groups per second (K = 8)",
        command=command_of("training_speed"),
        goal="cross-encoder 1.6 x the peer at equal settings, 2.5 x with the defaults of both at equal nDCG@10 (0.005, "
        "mean of 3 seeds), dual encoder 2 x, ColBERT 2 x",
        machine=machine(threads),
        versions=versions("torch", "transformers")
        | {f"{package} of {kind}": one for kind, each in PEERS.items() for package, one in each.items()},
        rows=rows,
        about=f"MiniLM-L6, {batch} groups a step, word embeddings frozen on both sides, {repeats} runs each in turn; "
        f"the defaults train all parameters that are trained by default, {long} steps, once for each seed",
        notes=NOTES,
    )


def compare(data: Data, case: Case, steps: int, repeats: int, threads: int) -> Row:
    """One row at equal settings; a peer that is not installed is a row without numbers."""
    missing = missing_peer(case.peer or case.kind)
    if missing:
        return Row(name=case.name, unit="groups/s", values={"not measured: " + missing: None})
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        start = Path(place, "start")
        ranker = RANKERS[case.kind].from_spec(RANKERS[case.kind].spec_class.model_validate(case.options))
        if case.peer == "pylate":
            export(ranker, start, "pylate")
        else:
            ranker.save_pretrained(start)
        options = {
            "batch": case.batch,
            "steps": steps,
            "bfloat16": case.bfloat16,
            "temperature": 1.0,
            "seed": 0,
            "freeze": True,
            "dropout": case.dropout,
        }
        stage = stage_of(case.loss, steps, case.batch)
        columns = groups_as_texts(data, stage, 0, steps * case.batch)
        for number in range(repeats):
            ours.append(ours_rate(data, case, stage, Path(place, f"ours-{number}")))
            theirs.append(rate(peer_ends(case.peer or case.kind, start, columns, options, threads), case.batch))
    ratio = statistics.median(ours) / statistics.median(theirs)
    return Row(
        name=case.name,
        values={"ours": statistics.median(ours), "theirs": statistics.median(theirs)},
        unit="groups/s",
        ratio=ratio,
        spread=max(spread(ours), spread(theirs)),
        reached=ratio >= case.goal,
    )


def peer_python(kind: str) -> str | None:
    """The interpreter of a peer's environment."""
    if kind == "pylate":
        return os.environ.get("STILLHOUSE_PYLATE_PYTHON")
    return os.environ.get("STILLHOUSE_PEER_PYTHON", sys.executable)


def missing_peer(kind: str) -> str:
    """Why a peer cannot train here; empty where it can."""
    python = peer_python(kind)
    if python is None:
        return "STILLHOUSE_PYLATE_PYTHON names no interpreter"
    packages = ["datasets", "accelerate", "sentence_transformers", *(["pylate"] if kind == "pylate" else [])]
    code = f"from importlib.util import find_spec; print(*(one for one in {packages} if find_spec(one) is None))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return f"{python} does not run"
    return f"not installed: {done.stdout.strip()}" if done.stdout.strip() else ""


def ours_rate(data: Data, case: Case, stage: Any, folder: Path) -> float:
    """Groups per second of our loop."""
    dtype = "bfloat16" if case.bfloat16 else "float32"
    job = replace(training_job(data, case.options, stage, dtype=dtype), **taught(data))
    # One dev evaluation ends the stage, after the last step's time is written.
    job = replace(job, evaluation=job.evaluation | {"dev_depth": 2})
    run_job(job, folder, lambda metrics, step: None)
    return rate(step_times(folder), case.batch)


def taught(data: Data) -> dict[str, str]:
    return {"teacher_scores": str(teacher_file(data)), "teacher_key": "bm25-and-labels"}


def rate(ends: list[float], batch: int) -> float:
    return batch * (len(ends) - 1) / (ends[-1] - ends[0])


def peer_ends(
    kind: str, start: Path, columns: Any, options: dict[str, Any], threads: int, save: Path | None = None
) -> list[float]:
    """When each step of the peer's training ended; `save`: where its model is written."""
    asked = {"kind": kind, "folder": str(start), "columns": columns, "options": options, "threads": threads}
    asked |= {"save": "" if save is None else str(save)}
    python = str(peer_python(kind))
    environment = dict(os.environ)
    if python != sys.executable:
        environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [python, training_peers.__file__],
        input=json.dumps(asked),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"error: {python}: {kind} did not train: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
    found = json.loads(done.stdout.splitlines()[-1])
    PEERS[kind] = found["versions"]
    return [float(end) for end in found["ends"]]


def defaults(data: Data, batch: int, steps: int, seeds: int, threads: int) -> Row:
    """Each side as it comes: dtype, dropout, optimiser and trained parameters of its own; one learning rate."""
    name = DEFAULTS
    missing = missing_peer("cross_encoder")
    if missing:
        return Row(name=name, unit="groups/s", values={"not measured: " + missing: None})
    ours: list[float] = []
    theirs: list[float] = []
    gains: dict[str, list[float]] = {"ours": [], "theirs": []}
    learning_rate = 5e-5
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as place:
            said = {"ranker": "cross_encoder", "backbone": "minilm", **CAPS}
            stage = stage_of(MARGIN, steps, batch, rate=learning_rate)
            job = replace(training_job(data, said, stage, seed=seed), **taught(data))
            metrics = run_job(job, Path(place, "ours"), lambda metrics, step: None)
            ours.append(rate(step_times(Path(place, "ours")), batch))
            gains["ours"].append(float(metrics["nDCG@10"]))
            options = {"batch": batch, "steps": steps, "bfloat16": False, "seed": seed, "learning_rate": learning_rate}
            columns = groups_as_texts(data, stage, seed, steps * batch)
            saved = Path(place, "theirs")
            ends = peer_ends("cross_encoder", resolve("minilm"), columns, options, threads, saved)
            theirs.append(rate(ends, batch))
            gains["theirs"].append(ndcg(data, saved))
    ratio = statistics.median(ours) / statistics.median(theirs)
    means = {who: statistics.fmean(values) for who, values in gains.items()}
    return Row(
        name=name,
        values={"ours": statistics.median(ours), "theirs": statistics.median(theirs)}
        | {f"nDCG@10 {who}": value for who, value in means.items()},
        unit="groups/s",
        ratio=ratio,
        spread=max(spread(ours), spread(theirs)),
        reached=ratio >= 2.5 and means["ours"] >= means["theirs"] - NDCG_TOLERANCE,
    )


def ndcg(data: Data, folder: Path) -> float:
    """nDCG@10 on dev of a folder that the peer saved, by our evaluation."""
    run = rerank(load_ranker(folder), data.collection, "dev", data.candidates["dev"], 30, data.workspace)
    values = per_query(run, named_qrels(data.collection, "dev"), ["nDCG@10"])["nDCG@10"]
    return statistics.fmean(values.values())


NOTES = [
    "The teacher is BM25 as a share of the query's best, times 2, with 6 for documents judged relevant.",
    "Tried on a step of 64 pairs, 136 tokens on average, bfloat16, dropout 0: the library's eager forward 3.4 s, with "
    "freed memory kept 2.3; layers written out 1.8, with freed memory kept 1.65, of which matrix products are 0.95.",
    "Not tried further: sparse gradients of embeddings, another optimiser or clip: both are 12 ms of 1,640 together.",
    "float32 products of 2,176 and 8,704 rows, widths 384 and 1,536, in GFLOP/s: torch's own 152 to 196, oneDNN's 266 "
    "to 453 forward and for the inputs' gradient, 176 to 340 for the weights'. With torch's own the float32 row was "
    "1.25. In bfloat16 torch's own are oneDNN's already, and better for the weights' (717 to 841 against 483 to 727).",
    "torch draws a dropout mask in 5.3 ns an element; 16 bits of SFC64 an element cost 0.44.",
]

if __name__ == "__main__":
    main()
