"""docs/reproductions.md: what the papers printed and what the minis gave, written from the record of the runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from stillhouse.artifacts import atomic_file
from stillhouse.evaluation.figures import lines_with_spread
from stillhouse.markdown import markdown_line
from stillhouse.reproduction.papers import EXPERIMENTS, STUDENT, Experiment

OTHERS = {"first stage": "first stage (BM25)", "teacher": "its teacher"}
HEAD = """# Reproductions

The papers' experiments at the size of two cores, written by `make reproduce` from
[reproductions.json](reproductions.json).

The papers train on 40 million triples of MS MARCO for days. A row here is one training of 32 to 88 steps on
about a thousand questions of MedQuAD, which is no published benchmark, with the first layers of one small MiniLM. So
the figures themselves cannot agree; what is compared is which row stands above which, and a test that says "not
resolved" is as likely to tell of the size as of the claim.

The one MiniLM at hand was trained as a sentence encoder. Late interaction of its tokens is the strongest ranker that a
minute of training makes of it, so that is the teacher where the papers have cross-encoders; a cross-encoder of the same
layers has to learn to compare from nothing, and stays below.

- **here**: mean over the seeds of the measure on test, with the standard deviation over seeds. A seed draws the groups,
  their order and fresh weights; teachers, documents and queries are the same for all.
- **paper**: as printed; no number stands where the paper, or what of it is at hand, has none.
- **tests**: two-sided paired t-test over queries of the mean over seeds, corrected after Holm over the tests of one
  table; level 0.05. "agrees" where the paper says *better*: the difference has its sign and p < 0.05. Where the paper
  says *no better*: the difference is not above 0 with p < 0.05, which is no proof that there is none. "differs": the
  opposite is significant.
"""


def write(record: Mapping[str, Any], folder: Path) -> None:
    """The page and its pictures, in `folder` and `folder/images`."""
    for name, found in record["experiments"].items():
        draw(EXPERIMENTS[name], found, folder / "images" / f"{name}.png")
    with atomic_file(folder / "reproductions.md") as temporary:
        temporary.write_text(page(record), encoding="utf-8")


def page(record: Mapping[str, Any]) -> str:
    """The whole page as Markdown."""
    # A record read from its file has them by name.
    experiments = {name: record["experiments"][name] for name in EXPERIMENTS if name in record["experiments"]}
    seconds = sum(_seconds(found) for found in experiments.values())
    machine = record["machine"]
    facts = (
        f"Made on {_count(machine['cores'], 'core')} ({machine['processor']}, {machine['dtype']}); the rows took "
        f"{seconds / 60:.0f} minutes in all, one that several tables share counted in each.\n"
    )
    overview = [markdown_line(("experiment", "paper", *_VERDICTS)), "|---|---|---:|---:|---:|"]
    for name, found in experiments.items():
        counts = [sum(one["verdict"].startswith(word) for one in found["comparisons"]) for word in _VERDICTS]
        title = EXPERIMENTS[name].title
        overview.append(
            markdown_line((f"[{title}](#{_anchor(title)})", EXPERIMENTS[name].source.partition(" (")[0], *counts))
        )
    sections = ["\n".join(_section(name, EXPERIMENTS[name], found)) for name, found in experiments.items()]
    return "\n".join([HEAD, facts, *overview, "", *sections])


_VERDICTS = ("agrees", "not resolved", "differs")


def _section(name: str, experiment: Experiment, found: Mapping[str, Any]) -> Iterator[str]:
    seeds = found["seeds"]
    yield f"## {experiment.title}\n"
    yield f"`{name}`. Paper: {experiment.source}.\n"
    yield f"{experiment.here}\n"
    yield (
        f"{found['queries']:,} test queries of `{found['collection']}`, the first {found['depth']} of BM25 re-ranked; "
        f"{_count(len(seeds), 'seed')} ({', '.join(map(str, seeds))}); {_seconds(found) / 60:.1f} minutes.\n"
    )
    others = sorted(found["rows"][STUDENT].keys() - {"seconds", found["measure"]})
    measures = [found["measure"], *others]
    yield markdown_line(
        (
            "ranker",
            *(f"{key} here" for key in measures),
            *(f"{key}, paper" for key in experiment.columns),
            "s a run (median)",
        )
    )
    yield "|---|" + "---:|" * (len(measures) + len(experiment.columns) + 1)
    for key, label in OTHERS.items():
        if key in found["rows"]:
            yield _row(label, found["rows"][key], measures, [""] * len(experiment.columns))
    for key, row in experiment.rows.items():
        printed = [*row.paper, *["-"] * (len(experiment.columns) - len(row.paper))]
        yield _row(row.label, found["rows"][key], measures, printed)
    yield ""
    yield markdown_line(
        (
            f"tests on {found['measure']}",
            "paper says",
            "difference",
            "95 % interval",
            "p (Holm)",
            "wins/ties/losses",
            "direction",
        )
    )
    yield "|---|---|---:|---:|---:|---:|---|"
    for one in found["comparisons"]:
        a, b = experiment.rows[one["a"]].label, experiment.rows[one["b"]].label
        interval = f"{one['ci_low']:+.4f} to {one['ci_high']:+.4f}"
        wins = f"{one['wins']}/{one['ties']}/{one['losses']}"
        yield markdown_line(
            (
                f"{a} - {b}",
                one["says"],
                f"{one['difference']:+.4f}",
                interval,
                f"{one['p_holm']:.2g}",
                wins,
                one["verdict"],
            )
        )
    yield ""
    if experiment.picture:
        yield f"![{experiment.title}](images/{name}.png)\n"


def draw(experiment: Experiment, found: Mapping[str, Any], path: Path) -> None:
    """The experiment's picture, if it has one."""
    picture, measure = experiment.picture, found["measure"]
    if picture is None:
        return
    lines = {}
    for label, points in picture.lines.items():
        values = [(x, found["rows"][row][measure]) for x, row in points]
        lines[label] = [(x, value["mean"], value["sd"] or 0.0) for x, value in values]
    lines_with_spread(lines, path, picture.xlabel, measure, log=picture.log)


def _row(label: str, row: Mapping[str, Any], measures: Sequence[str], printed: Sequence[str]) -> str:
    values = [_spread(row[measure]) for measure in measures]
    return markdown_line((label, *values, *printed, f"{median(row['seconds']):.0f}"))


def _spread(value: Mapping[str, Any]) -> str:
    # One seed, or a ranker that no seed changes.
    return f"{value['mean']:.4f} \N{PLUS-MINUS SIGN} {value['sd']:.4f}" if value["sd"] else f"{value['mean']:.4f}"


def _seconds(found: Mapping[str, Any]) -> float:
    rows = [row["seconds"] for key, row in found["rows"].items() if key not in OTHERS]
    return float(sum(len(times) * median(times) for times in rows))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _anchor(title: str) -> str:
    return "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -").replace(" ", "-")
