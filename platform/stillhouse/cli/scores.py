"""`stillhouse scores`."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="To come.")


@app.command("list")
def list_() -> None:
    """To come."""
