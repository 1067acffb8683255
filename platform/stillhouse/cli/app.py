"""The command `stillhouse`: its verbs, and what becomes of their errors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from stillhouse.cli import (
    cost,
    doctor,
    evaluate,
    export,
    import_,
    job,
    listing,
    new,
    plan,
    repeat,
    report,
    reproduce,
    rerank,
    retrieve,
    run,
    score,
    scores,
    study,
    suite,
    train,
    tune,
    ui,
)
from stillhouse.cli.console import guard, quiet

app = typer.Typer(name="stillhouse", rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)


def _version(asked: bool) -> None:
    if asked:
        from stillhouse import __version__

        typer.echo(f"stillhouse {__version__}")
        raise typer.Exit


@app.callback()
def _everywhere(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; any place will do.")] = False,
) -> None:
    """Distil neural rankers: score a teacher once, search students many times, record every run.

    \b
    Examples:
      stillhouse run demo                    the whole recipe: teacher, search, students, table
      stillhouse plan demo --set seed=1      what it would cost
      stillhouse new my.yaml --collection my/folder
    """


app.command("run")(run.run)
app.command("score")(score.score)
app.command("train")(train.train)
app.command("tune")(tune.tune)
app.command("evaluate")(evaluate.evaluate)
app.command("rerank")(rerank.rerank)
app.command("retrieve")(retrieve.retrieve)
app.command("export")(export.export)
app.command("import")(import_.import_)
app.command("plan")(plan.plan)
app.command("new")(new.new)
app.command("report")(report.report)
app.command("repeat")(repeat.repeat)
app.command("study")(study.study)
app.command("reproduce")(reproduce.reproduce)
app.command("suite")(suite.suite)
app.command("cost")(cost.cost)
app.command("ui")(ui.ui)
app.command("list")(listing.listing)
app.command("doctor")(doctor.doctor)
app.add_typer(scores.app, name="scores")
app.add_typer(job.app, name="job")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 for an error, 2 for a wrong command line, 130 for Ctrl-C."""
    return _execute(app, list(sys.argv[1:] if argv is None else argv) or ["--help"], "stillhouse")


def main_of(function: Callable[..., None]) -> int:
    """The same for a script that has only one verb, as those of `jobs/` do."""
    single = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
    single.command()(function)
    return _execute(single, sys.argv[1:], sys.argv[0])


def _execute(commands: typer.Typer, arguments: list[str], name: str) -> int:
    quiet(verbose="--verbose" in arguments)
    # `--debug` is taken out here, so that it works before and after the verb.
    rest = [word for word in arguments if word != "--debug"]
    return guard(lambda: commands(rest, prog_name=name, standalone_mode=False), debug="--debug" in arguments)
