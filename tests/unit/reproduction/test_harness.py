"""Killed and started again, the harness repeats nothing that was finished and ends with the same figures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from stillhouse.recipe import load_recipe
from stillhouse.reproduction.harness import reproduce, summary, verdict
from stillhouse.reproduction.papers import Claim, Experiment, Row

ROOT = Path(__file__).parents[3]
EXPERIMENT = Experiment(
    title="Toy",
    source="none",
    columns=(),
    rows={name: Row(name) for name in ("student", "labels", "both")},
    claims=(Claim("student", "better", "labels"),),
    here="",
)


def run(folder: Path) -> dict:
    """The toy experiment for two seeds, with everything under one folder."""
    recipe = load_recipe(folder / "toy.yaml")
    return reproduce({"toy": EXPERIMENT}, {"toy": recipe}, [0, 1], folder / "results", Console(quiet=True))["toy"]


def write_toy(folder: Path, collection: Path, backbone: Path) -> None:
    """A recipe of three students; its teacher is a score file, so that no Ray has to start."""
    (folder / "toy.yaml").write_text(f"""
name: toy
output: {{path: out}}
collection: {{train: {collection}, dev: {collection}, test: {collection}, seed: 0}}
candidates: {{depth: 8}}
teachers: {{file: {{scores: teacher.tsv}}}}
student: {{ranker: dual_encoder, backbone: {backbone}, query_max_length: 16, doc_max_length: 32}}
stages:
  train: {{loss: {{name: kl}}, groups: {{num_negatives: 3}}, queries_per_step: 8, evaluations: 1}}
baselines:
  labels: {{stages.train.loss: {{name: contrastive}}}}
  both:
    stages:
      train: {{loss: {{name: contrastive}}, queries_per_step: 8}}
      second: {{loss: {{name: kl}}, queries_per_step: 8}}
retrain: {{num_workers: 1, sharding: none}}
scale: {{dtype: float32}}
evaluation: {{depth: 8}}
tracking: {{uri: none}}
""")
    rows = [
        f"q{query}\td{doc}\t{(query * 7 + doc * 13) % 11 - 5 + 10 * (query == doc)}"
        for query in range(24)
        for doc in range(60)
    ]
    (folder / "teacher.tsv").write_text("\n".join(rows) + "\n")


def start(folder: Path) -> subprocess.Popen[bytes]:
    paths = f"{ROOT / 'platform'}{os.pathsep}{Path(__file__).parent}"
    command = f"import pathlib, test_harness; test_harness.run(pathlib.Path({str(folder)!r}))"
    return subprocess.Popen(
        [sys.executable, "-c", command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths, "STILLHOUSE_HOME": str(folder / "home")},
        stdout=(folder / "out.txt").open("ab"),
        stderr=subprocess.STDOUT,
    )


def files(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (folder / "results").glob("*.json")}


def per_query(folder: Path) -> dict[str, dict]:
    return {path.name: json.loads(path.read_text())["per_query"] for path in (folder / "results").glob("*.json")}


def test_a_killed_run_goes_on_where_it_stood(
    tmp_path: Path, collection_folder: Path, backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for folder in (killed, whole):
        folder.mkdir()
        write_toy(folder, collection_folder, backbone)
    process = start(killed)
    deadline = time.monotonic() + 300
    while len(files(killed)) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = files(killed)
    assert 3 <= len(before) < 7, (killed / "out.txt").read_text()

    found = []
    for folder in (killed, whole):
        monkeypatch.setenv("STILLHOUSE_HOME", str(folder / "home"))
        monkeypatch.chdir(folder)
        found.append(run(folder))
    after = files(killed)
    assert before.items() <= after.items()  # not written again
    assert len(after) == 7  # the first stage once, three students for two seeds
    assert per_query(killed) == per_query(whole)
    for summary_of_one in found:
        assert all(len(row.pop("seconds")) == 2 for row in summary_of_one["rows"].values())
    assert found[0] == found[1]
    seeds = found[0]["rows"]["student"]["nDCG@10"]["seeds"]
    assert seeds[0] != seeds[1]
    assert not list((whole / "home" / "models").glob("*/done.json"))  # only the measures are kept


def test_figures_of_a_summary_are_those_of_scipy(tmp_path: Path, collection_folder: Path, backbone: Path) -> None:
    write_toy(tmp_path, collection_folder, backbone)
    rng = np.random.default_rng(0)

    def result(lift: float) -> dict:
        values = {f"q{i}": float(value) for i, value in enumerate(rng.uniform(0, 0.8, 40) + lift)}
        return {"per_query": {"nDCG@10": values, "RR@10": values}, "seconds": 2.0}

    rows = {name: [result(lift), result(lift)] for name, lift in (("student", 0.2), ("labels", 0.0), ("both", 0.1))}
    found = summary(EXPERIMENT, load_recipe(tmp_path / "toy.yaml"), rows, [0, 1])
    mean = {
        name: np.mean([list(one["per_query"]["nDCG@10"].values()) for one in both], axis=0)
        for name, both in rows.items()
    }
    expected = stats.ttest_rel(mean["student"], mean["labels"])
    (comparison,) = found["comparisons"]
    assert comparison["p"] == pytest.approx(expected.pvalue)
    assert comparison["verdict"] == "agrees"
    row = found["rows"]["both"]["nDCG@10"]
    means = [np.mean(list(one["per_query"]["nDCG@10"].values())) for one in rows["both"]]
    assert row["mean"] == pytest.approx(sum(means) / 2, abs=1e-6)
    assert row["sd"] == pytest.approx(abs(means[0] - means[1]) / 2**0.5, abs=1e-6)  # of two values
    assert found["queries"] == 40


@pytest.mark.parametrize(
    ("says", "difference", "p", "expected"),
    [
        ("better", 0.1, 0.01, "agrees"),
        ("better", -0.1, 0.01, "differs"),
        ("better", 0.1, 0.2, "not resolved (p = 0.2)"),
        ("no better", 0.1, 0.01, "differs"),
        ("no better", 0.1, 0.2, "agrees"),
        ("no better", -0.1, 0.01, "agrees"),
    ],
)
def test_verdicts(says, difference, p, expected):
    assert verdict(Claim("a", says, "b"), difference, p) == expected
