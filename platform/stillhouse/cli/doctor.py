"""`stillhouse doctor`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from stillhouse.cli.console import open_console
from stillhouse.cli.options import VerboseOption

if TYPE_CHECKING:
    from stillhouse.cli import checks

Look: TypeAlias = Callable[[], Iterable["checks.Check"]]


def doctor(
    tracking: Annotated[
        str, typer.Option("--tracking", metavar="URI", help="The MLflow store to look at.")
    ] = "sqlite:///.stillhouse/mlflow.db",
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="URL", help="The dashboard of a Ray cluster: compare its nodes instead."),
    ] = None,
    verbose: VerboseOption = False,
) -> None:
    """Check what is installed and runs here, and name each mend.

    Fails if something must be mended before stillhouse can run here. With --address: fails if the nodes of that
    cluster differ from one another, or from this machine, in Python, Ray, torch, transformers or stillhouse.

    \b
    Examples:
      stillhouse doctor
      stillhouse doctor --tracking http://127.0.0.1:5000
      stillhouse doctor --address http://127.0.0.1:8265
    """
    if address is not None:
        _compare_nodes(address)
        return
    from rich.table import Table
    from rich.text import Text

    from stillhouse.cli import checks

    looks: list[Look] = [
        checks.python,
        checks.packages,
        checks.devices,
        lambda: checks.ray_starts(verbose=verbose),
        lambda: checks.record(tracking),
        checks.disk,
        checks.memory,
    ]
    console = open_console()
    table = Table(box=None, pad_edge=False)
    for name in ("check", "state", "found", "mend"):
        table.add_column(name, overflow="fold")
    failed = 0
    with console.status("looking"):
        for look in looks:
            for check in _found(look):
                failed += check.state == "FAILS"
                # As text: pip's square brackets are no markup.
                table.add_row(*(Text(part) for part in (check.name, check.state, check.found, check.mend)))
    console.print(table)
    if failed:
        raise typer.Exit(1)


def _compare_nodes(address: str) -> None:
    """A row for this machine and each node, then what differs."""
    from rich.table import Table
    from rich.text import Text

    from stillhouse import cluster
    from stillhouse.versions import COMPARED, differences, versions

    console, here = open_console(), versions()
    with console.status("asking the nodes"):
        nodes = cluster.node_versions(address)
    table = Table("node", "CPU", "GPU", *COMPARED, box=None, pad_edge=False)
    table.add_row("this machine", "", "", *here.values())
    for node in nodes:
        told = [Text(node["versions"].get(name, "no answer")) for name in COMPARED]
        table.add_row(node["name"], *(f"{amount:g}" for amount in node["resources"].values()), *told)
    console.print(table)
    found = differences(nodes, here)
    for one in found:
        console.print(f"{'FAILS' if one.breaks else 'differs'}: {one.text}", markup=False)
    if found:
        console.print("mend: install the same versions on every node; docs/cluster.md shows where", markup=False)
        raise typer.Exit(1)
    console.print(f"nothing differs on {len(nodes)} {'node' if len(nodes) == 1 else 'nodes'}")


def _found(look: Look) -> Iterable[checks.Check]:
    """What a check finds; a package that it cannot import is a finding too."""
    from stillhouse.cli.checks import Check

    try:
        return list(look())
    except ImportError as error:
        return [Check(error.name or "import", "FAILS", " ".join(str(error).split()), "make install")]
