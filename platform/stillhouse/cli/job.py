"""`stillhouse job`: a verb on a Ray cluster, over Ray Jobs."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stillhouse.cli.console import open_console
from stillhouse.cli.options import RecipeArgument, SetOption

app = typer.Typer(rich_markup_mode=None, help="Run verbs on a Ray cluster: submit, status, logs, stop, list.")

AddressOption = Annotated[
    str,
    typer.Option(
        "--address", metavar="URL", envvar="RAY_DASHBOARD_ADDRESS", help="The dashboard of the cluster's head."
    ),
]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="As `submit` and `list` print it.")]
ADDRESS = "http://127.0.0.1:8265"


class Verb(StrEnum):
    run = "run"
    score = "score"
    train = "train"
    tune = "tune"
    evaluate = "evaluate"


@app.command()
def submit(
    verb: Annotated[Verb, typer.Argument(metavar="VERB", help="run, score, train, tune or evaluate.")],
    recipe: RecipeArgument,
    overrides: SetOption,
    more: Annotated[
        list[str],
        typer.Argument(
            metavar="OPTION", default_factory=list, show_default=False, help="After `--`: further options of the verb."
        ),
    ],
    space: Annotated[str | None, typer.Option("--space", metavar="SPACE", help="For tune: the search space.")] = None,
    address: AddressOption = ADDRESS,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="End when the job is sent.")] = False,
    check: Annotated[
        bool | None,
        typer.Option(
            "--check/--no-check",
            show_default=False,
            help="Compare the versions of the nodes first; else once for each set of nodes.",
        ),
    ] = None,
) -> None:
    """Send a job, print what it prints, end with its exit status.

    The recipe, its search space and this package go along, and nothing else. Paths in the recipe are paths on the
    cluster: let output.path, store.path and tracking.uri point to storage that all nodes share.

    \b
    Examples:
      stillhouse job submit run demo --set output.path=/shared/demo --set store.path=/shared/scores
      stillhouse job submit tune my.yaml --no-wait --address http://127.0.0.1:8265 -- --trials 64 --resume
    """
    from stillhouse import cluster
    from stillhouse.recipe import load_recipe

    for key in cluster.relative_paths(load_recipe(recipe, overrides)):
        print(f"note: {key} is a relative path: on the cluster it goes with the job's folder", file=sys.stderr)
    _compare_nodes(address, check)
    job = cluster.submit(verb.value, recipe, overrides, more, address, space)
    print(job)
    if no_wait:
        return
    cluster.logs(job, address, follow=True)
    state, code = cluster.status(job, address)
    print(f"{job}: {state}", file=sys.stderr)
    if code:
        raise typer.Exit(code)


def _compare_nodes(address: str, check: bool | None) -> None:
    """Refuse nodes that do not fit together. Their ids say when to look again: a look is a job of some seconds."""
    if check is False:
        return
    from stillhouse import cluster
    from stillhouse.errors import ClusterError
    from stillhouse.versions import differences, versions

    seen = Path(os.environ.get("STILLHOUSE_HOME", ".stillhouse"), "clusters", cluster.nodes_key(address))
    if check is None and seen.exists():
        return
    found = differences(cluster.node_versions(address), versions())
    for one in found:
        if not one.breaks:
            print(f"note: {one.text}", file=sys.stderr)
    if broken := [one.text for one in found if one.breaks]:
        mend = "install the same versions on every node, or send the job with --no-check"
        raise ClusterError(f"{address}: {'; '.join(broken)}; {mend}")
    seen.parent.mkdir(parents=True, exist_ok=True)
    seen.touch()


@app.command()
def status(job: JobArgument, address: AddressOption = ADDRESS) -> None:
    """Print the state of a job; a failed one gives its exit status.

    \b
    Examples:
      stillhouse job status raysubmit_abc
    """
    from stillhouse import cluster

    state, code = cluster.status(job, address)
    print(state)
    if code:
        raise typer.Exit(code)


@app.command()
def logs(
    job: JobArgument,
    address: AddressOption = ADDRESS,
    follow: Annotated[bool, typer.Option("--follow", help="Stay until the job ends.")] = False,
) -> None:
    """Print what a job has printed.

    \b
    Examples:
      stillhouse job logs raysubmit_abc --follow
    """
    from stillhouse import cluster

    cluster.logs(job, address, follow=follow)


@app.command()
def stop(job: JobArgument, address: AddressOption = ADDRESS) -> None:
    """Stop a job.

    \b
    Examples:
      stillhouse job stop raysubmit_abc
    """
    from stillhouse import cluster

    print(f"{job}: {'stopping' if cluster.stop(job, address) else 'had ended'}")


@app.command("list")
def list_(address: AddressOption = ADDRESS) -> None:
    """List the jobs of the cluster, newest first.

    \b
    Examples:
      stillhouse job list --address http://127.0.0.1:8265
    """
    from rich.table import Table

    from stillhouse import cluster

    table = Table("job", "state", "started", "command", box=None, pad_edge=False)
    for row in cluster.jobs(address):
        table.add_row(*row.values())
    open_console().print(table)
