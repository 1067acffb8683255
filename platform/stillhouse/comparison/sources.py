"""What `stillhouse report` is given: finished runs, MLflow run ids, TREC run files and models, in any mixture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from stillhouse.comparison import finished as kept
from stillhouse.comparison.entrants import Curves, Entrant, Ground, Section
from stillhouse.comparison.finished import Finished
from stillhouse.comparison.ground import ground_named
from stillhouse.comparison.models import is_model, rerank_model
from stillhouse.comparison.summary import Pair
from stillhouse.errors import CollectionError, TrackingError
from stillhouse.evaluation.trec import read_run
from stillhouse.recipe.tree import CandidatesSpec
from stillhouse.tracking.recorded import is_run_id, recorded_curves, recorded_run

Note = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """The options of a report."""

    collection: str | None = None
    """Reference of the collection; None takes that of the first finished run."""
    split: str = "test"
    measures: Sequence[str] = ()
    reference: str | None = None
    candidates: str = "bm25"
    depth: int = 100
    """Candidates per query of models, where no finished run says it."""
    tracking: str | None = None


@dataclass
class Gathered:
    """Everything that `build_content` takes."""

    title: str
    ground: Ground
    entrants: list[Entrant]
    measures: list[str]
    pairs: list[Pair]
    gap: tuple[str, str, str] | None = None
    curves: dict[str, Curves] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)


@dataclass(frozen=True)
class _Given:
    """One argument: a finished run (perhaps one ranker of it), a run file, or a model."""

    text: str
    finished: Finished | None = None
    system: str | None = None
    run_file: Path | None = None


def gather(names: Sequence[str], asked: Asked, root: Path, note: Note) -> Gathered:
    """Open and, for models, re-rank what is named. Errors are one line that names the argument."""
    given = [_open(name, asked) for name in names]
    runs = list({one.finished.folder: one.finished for one in given if one.finished is not None}.values())
    if asked.collection is not None:
        ground = ground_named(asked.collection, asked.split, root)
        data = [Section("Data", _described(ground))]
    elif runs:
        ground, data = kept.ground_of(runs[0], root), []
        _same_ground(runs)
    else:
        raise CollectionError(
            f"report {names[0]}: name the queries and judgements with --collection REF [--split test]"
        )
    many = len(runs) > 1
    entrants: list[Entrant] = []
    sections: list[Section] = data
    for run in runs:
        sections += kept.sections_of(run, ground if asked.collection is None else None)
    for one in given:
        if one.finished is not None:
            entrants += _of_run(one, many)
        elif one.run_file is not None:
            entrants.append(Entrant(_stem(one.run_file), read_run(one.run_file)))
            sections.append(_file_section(entrants[-1], one.run_file))
        else:
            spec, depth = _candidates(asked, runs)
            entrant, section = rerank_model(one.text, ground, spec, depth, root, note)
            entrants.append(entrant)
            sections.append(section)
    entrants = _distinct(entrants)
    measures = list(asked.measures) or (runs[0].measures if runs else ["nDCG@10", "RR@10"])
    alone = runs[0] if len(given) == 1 and runs and given[0].system is None else None
    found = Gathered(
        f"Run {alone.recipe.name}" if alone else f"Comparison of {len(entrants)} rankers",
        ground,
        entrants,
        measures,
        _pairs(entrants, asked.reference, alone or (runs[0] if len(runs) == 1 else None)),
        alone.gap if alone else None,
        sections=sections,
    )
    for run in runs:
        found.curves |= _curves(run, f"{run.folder.name}: " if many else "", measures, asked.tracking, note)
    return found


def _open(name: str, asked: Asked) -> _Given:
    path = Path(name).expanduser()
    if kept.is_finished(path):
        return _Given(name, kept.open_finished(path))
    if path.is_file():
        return _Given(name, run_file=path)
    if is_run_id(name):
        return _recorded(name, asked.tracking)
    if is_model(name):
        return _Given(name)
    raise CollectionError(
        f"report {name}: found no such thing; expected the output.path of a finished run, the id of an MLflow run, "
        "a TREC run file, or a ranker (folder, hub name owner/name, MLflow URI)"
    )


def _recorded(run_id: str, tracking: str | None) -> _Given:
    """A whole run, or the ranker that a child run stands for."""
    run = recorded_run(run_id, tracking)
    if kept.is_finished(run.folder):
        return _Given(run_id, kept.open_finished(run.folder))
    if run.parent is not None:
        parent = recorded_run(run.parent, tracking)
        if kept.is_finished(parent.folder):
            finished = kept.open_finished(parent.folder)
            if run.name in finished.names:
                return _Given(run_id, finished, run.name)
    raise TrackingError(
        f"run {run_id} ({run.name}): it keeps no ranking of the test queries; give the id of the `stillhouse run` that "
        "it belongs to, or of one of its rankers"
    )


def _of_run(one: _Given, many: bool) -> list[Entrant]:
    """All rankers of a run that stands alone among the arguments; of several runs the one each is about."""
    assert one.finished is not None
    if one.system is None and not many:
        return kept.entrants_of(one.finished)
    (entrant,) = kept.entrants_of(one.finished, [one.system or one.finished.main])
    return [replace(entrant, name=f"{one.finished.folder.name}: {entrant.name}")] if one.system is None else [entrant]


def _same_ground(runs: Sequence[Finished]) -> None:
    digests = {run.record.get("collection_digest"): run for run in runs}
    if len(digests) > 1:
        places = ", ".join(f"{run.folder} ({digest})" for digest, run in digests.items())
        raise CollectionError(f"report: the runs were measured on different collections: {places}")


def _candidates(asked: Asked, runs: Sequence[Finished]) -> tuple[CandidatesSpec, int]:
    """What models re-rank: what the first finished run re-ranked, else what the options say."""
    if runs and asked.collection is None:
        return runs[0].recipe.candidates, runs[0].recipe.evaluation.depth
    return CandidatesSpec(source=asked.candidates, depth=asked.depth), asked.depth


def _distinct(entrants: Sequence[Entrant]) -> list[Entrant]:
    """Names that tell the entrants apart; the second of a name gets a number."""
    counts: dict[str, int] = {}
    distinct = []
    for entrant in entrants:
        counts[entrant.name] = counts.get(entrant.name, 0) + 1
        number = counts[entrant.name]
        distinct.append(entrant if number == 1 else replace(entrant, name=f"{entrant.name} ({number})"))
    return distinct


def _pairs(entrants: Sequence[Entrant], reference: str | None, run: Finished | None) -> list[Pair]:
    """All against the reference; without one, what a finished run is about against all, or all against the first."""
    names = [entrant.name for entrant in entrants]
    if reference is not None:
        if reference not in names:
            raise CollectionError(f"--reference {reference}: no such ranker; there are {', '.join(names)}")
        return [(name, reference) for name in names if name != reference]
    if run is not None and run.main in names:
        return [(run.main, name) for name in names if name != run.main]
    return [(name, names[0]) for name in names[1:]]


def _curves(run: Finished, prefix: str, measures: Sequence[str], tracking: str | None, note: Note) -> dict[str, Curves]:
    """Of the folder, and of the record what the folder lacks; without either a dev curve, those of the trials."""
    found = kept.curves_of(run)
    store = tracking or run.record.get("tracking_uri")
    children = run.record.get("child_run_ids", {})
    if children and store and store != "none":
        try:
            recorded = recorded_curves(list(children.values()), measures[:1], store)
        except TrackingError as error:
            note(f"without the curves of its record: {error}")
            recorded = {}
        trained = {
            name: Curves(one.get("loss", ()), {measures[0]: one.get(measures[0], [])}) for name, one in recorded.items()
        }
        whole = {name: one for name, one in trained.items() if not name.startswith("trial ") and one.loss}
        found = whole | found
        if not any(one.dev.get(measures[0]) for one in found.values()):
            trials = {name: one for name, one in trained.items() if one.dev[measures[0]]}
            best = sorted(trials, key=lambda name: -max(value for _, value in trials[name].dev[measures[0]]))[:5]
            found |= {name: Curves((), trials[name].dev) for name in best}
    return {f"{prefix}{name}": one for name, one in found.items()}


def _stem(path: Path) -> str:
    name = path.name
    for suffix in (".gz", ".trec", ".run", ".txt"):
        name = name.removesuffix(suffix)
    return name


def _file_section(entrant: Entrant, path: Path) -> Section:
    from stillhouse.artifacts import file_digest

    results = sum(len(scores) for scores in entrant.run.values())
    facts = {
        "file": str(path),
        "SHA-256": file_digest(path),
        "queries": f"{len(entrant.run):,}",
        "results": f"{results:,}",
    }
    return Section(f"Run file {entrant.name}", facts)


def _described(ground: Ground) -> dict[str, str]:
    return {
        "collection": ground.name,
        "collection digest": ground.collection.digest,
        "documents": f"{len(ground.collection.docs):,}, digest {ground.collection.facts.get('docs_digest', 'unknown')}",
        "judged queries": f"{len(ground.qrels):,}",
    }
