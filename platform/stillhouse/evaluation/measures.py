"""Measures by their ir_measures names (`nDCG@10`, `RR(rel=2)@10`), one value per query."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ir_measures

from stillhouse.errors import CollectionError, RecipeError
from stillhouse.records import Run

if TYPE_CHECKING:
    from stillhouse.collection import Collection

Qrels = Mapping[str, Mapping[str, int]]
"""query_id -> doc_id -> grade."""

PerQuery = dict[str, dict[str, float]]
"""measure -> query_id -> value."""


def parse_measures(names: Sequence[str]) -> dict[str, Any]:
    """Name as given -> ir_measures measure; RecipeError in one line for a name that cannot be computed."""
    if not names:
        raise RecipeError("measures: none given; expected ir_measures names like nDCG@10")
    return {name: _parse(name) for name in names}


def at_relevance(names: Sequence[str], level: int) -> list[str]:
    """The names with `rel=level` written into each measure of relevant documents that gives no level.

    `RR@10` at 2 becomes `RR(rel=2)@10`; at 1, which ir_measures takes for a name without a level, names stay.
    """
    if level == 1:
        return list(names)
    return [
        str(measure(rel=level)) if name in levelless(names) else name for name, measure in parse_measures(names).items()
    ]


def levelless(names: Sequence[str]) -> list[str]:
    """Those of the names that count documents as relevant and do not say from which grade on."""
    return [
        name
        for name, measure in parse_measures(names).items()
        if "rel" in measure.SUPPORTED_PARAMS and "rel" not in measure.params
    ]


def known_measures() -> list[tuple[str, str]]:
    """Families of measures that can be computed here, with their parameters and a line about each."""
    providers = [provider for provider in ir_measures.DefaultPipeline.providers if provider.is_available()]
    computable = {measure.NAME for provider in providers for measure in provider.SUPPORTED_MEASURES}
    found = {}
    for measure in ir_measures.measures.registry.values():
        if measure.NAME in computable:
            about = " ".join((measure.__doc__ or "").split()).partition(". ")[0].rstrip(".")
            parameters = ", ".join(name for name in measure.SUPPORTED_PARAMS if name != "cutoff")
            cutoff = "[@k]" if "cutoff" in measure.SUPPORTED_PARAMS else ""
            found[f"{measure.NAME}{f'({parameters})' if parameters else ''}{cutoff}"] = about
    return sorted(found.items())


def per_query(run: Run, qrels: Qrels, measures: Sequence[str]) -> PerQuery:
    """Values of a run for every query of the qrels, in their order; a query without results counts 0.

    The values are those of the `ir_measures` command on the same files, thus of trec_eval where it has the measure.
    One surprise is kept: `RR@k` with a cutoff comes from the MS MARCO program, which breaks ties of score by
    ascending document id; all of trec_eval's break them by descending id.
    """
    parsed = parse_measures(measures)
    if not qrels:
        raise CollectionError("qrels: no query has a judgement, so nothing can be measured")
    _check_scores(run)
    names = {measure: name for name, measure in parsed.items()}
    values: PerQuery = {name: dict.fromkeys(qrels, 0.0) for name in parsed}
    known = {query_id: scores for query_id, scores in run.items() if query_id in qrels}
    try:
        for query_id, measure, value in ir_measures.iter_calc(list(names), qrels, known):
            values[names[measure]][query_id] = float(value)
    except subprocess.CalledProcessError as error:
        raise RecipeError(f"measures {', '.join(names.values())}: the program {error.cmd[0]} failed on them") from None
    for name, measure in parsed.items():
        # Two names of one measure (RR@10, MRR@10) are computed once.
        values[name] = values[names[measure]]
    return values


def means(values: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """One number per measure over all its queries, as the `ir_measures` command aggregates (the mean; counts: sum)."""
    result = {}
    for name, measure in parse_measures(list(values)).items():
        aggregator = measure.aggregator()
        for value in values[name].values():
            aggregator.add(value)
        result[name] = float(aggregator.result())
    return result


def named_qrels(collection: Collection, split_name: str, query_rows: Sequence[int] | None = None) -> Qrels:
    """The qrels of a split by ids instead of rows; `query_rows` keeps only those queries."""
    split = collection.splits[split_name]
    rows = split.qrels.keys() if query_rows is None else [row for row in query_rows if row in split.qrels]
    ids = collection.docs.ids
    return {split.queries.ids[row]: {ids[doc]: grade for doc, grade in split.qrels[row].items()} for row in rows}


def _parse(name: str) -> Any:
    try:
        measure = ir_measures.parse_measure(name)
        measure.validate_params()
    except (ValueError, NameError, AssertionError, KeyError, TypeError) as error:
        reason = "not understood" if isinstance(error, ValueError | TypeError) else str(error).splitlines()[0]
        if "<object" in reason:  # how ir_measures shows a parameter that is not given
            reason = f"{reason.split('=')[0].removeprefix('invalid param ')} is missing"
        raise RecipeError(
            f"measure {name!r}: {reason}; expected an ir_measures name like nDCG@10 or RR(rel=2)@10"
        ) from None
    if measure.params.get("cutoff", 1) < 1:
        raise RecipeError(f"measure {name!r}: the cutoff must be at least 1")
    providers = [provider for provider in ir_measures.DefaultPipeline.providers if provider.supports(measure)]
    if not any(provider.is_available() for provider in providers):
        names = ", ".join(provider.NAME for provider in providers) or "no program"
        raise RecipeError(f"measure {name!r}: computed only by {names}, not installed here")
    return measure


def _check_scores(run: Run) -> None:
    for query_id, scores in run.items():
        for doc_id, score in scores.items():
            if math.isnan(score):
                raise CollectionError(f"run: query {query_id}, document {doc_id}: the score is NaN")
