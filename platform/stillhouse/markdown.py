"""Tables as GitHub and MLflow show them."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_line(cells: Sequence[object]) -> str:
    """One line of a table; a bar inside a cell stays in its cell."""
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def markdown_table(
    header: Sequence[str], rows: Sequence[Sequence[object]], *, left: int = 1, last: int = 0
) -> list[str]:
    """The lines of a table: the first `left` and the `last` columns are words, those between are numbers."""
    rule = ["---"] * left + ["---:"] * (len(header) - left - last) + ["---"] * last
    return [markdown_line(cells) for cells in (header, rule, *rows)]
