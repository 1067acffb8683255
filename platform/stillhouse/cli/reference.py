"""The reference pages, written from the code: `make docs` runs `python -m stillhouse.cli.reference docs`."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import typer

from stillhouse.cli.app import app, main

_NOTE = "Written by `make docs`; change the code instead.\n"


def pages() -> dict[str, str]:
    """File name -> text."""
    return {"commands.md": commands(), "recipe.md": recipe()}


def commands() -> str:
    """The help of every verb."""
    parts = [f"# The command line\n\n{_NOTE}"]
    for verb in ("", *_verbs(app)):
        parts.append(f"## stillhouse {verb}".rstrip() + f"\n\n```\n{_help(verb)}\n```\n")
    return "\n".join(parts)


def recipe() -> str:
    """Every key of a recipe and of a search space."""
    from stillhouse.recipe import Recipe
    from stillhouse.search.space import SearchSpace

    parts = [f"# The keys of a recipe and of a search space\n\n{_NOTE}"]
    for title, model in (("Recipe", Recipe), ("SearchSpace", SearchSpace)):
        schema = model.model_json_schema()
        for name, part in {title: schema, **schema.get("$defs", {})}.items():
            if "properties" in part:
                parts.append(_section(name, part))
    return "\n".join(parts)


def _verbs(group: typer.Typer, prefix: str = "") -> Iterator[str]:
    for command in group.registered_commands:
        yield f"{prefix}{command.name or getattr(command.callback, '__name__', '')}"
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            yield from _verbs(inner.typer_instance, f"{prefix}{inner.name} ")


def _help(verb: str) -> str:
    text = io.StringIO()
    with redirect_stdout(text):
        main([*verb.split(), "--help"])
    return text.getvalue().rstrip()


def _section(name: str, part: dict[str, Any]) -> str:
    about = " ".join(part.get("description", "").split())
    return "\n".join([f"## {name}\n", *([f"{about}\n"] if about else []), key_table(part, list(part["properties"]))])


def key_table(part: dict[str, Any], keys: Sequence[str]) -> str:
    """A row for each of these keys of a JSON Schema: its values, default and meaning."""
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key in keys:
        field = part["properties"][key]
        default = "needed" if key in part.get("required", []) else f"`{json.dumps(field.get('default'))}`"
        meaning = " ".join(field.get("description", "").split()).replace("|", "\\|")
        lines.append(f"| `{key}` | {_type(field)} | {default} | {meaning} |".replace("  ", " "))
    return "\n".join(lines) + "\n"


def _type(field: dict[str, Any]) -> str:
    """A short text for a part of a JSON Schema."""
    if "$ref" in field:
        name = str(field["$ref"]).rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf"):
        if several in field:
            return " or ".join(_type(one) for one in field[several])
    if "const" in field or "enum" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    kind = str(field.get("type", "any"))
    if kind == "object":
        # Keys of the user's own: all of one kind, or names of one pattern.
        values = [field.get("additionalProperties"), *field.get("patternProperties", {}).values()]
        return next((f"names with {_type(value)}" for value in values if isinstance(value, dict)), "keys and values")
    if kind == "array":
        inner = field.get("items") or {"anyOf": field.get("prefixItems", [{}])}
        return f"list of {_type(inner)}"
    bounds = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
    limits = " and ".join(f"{sign} {field[bound]}" for bound, sign in bounds.items() if bound in field)
    return f"{kind} {limits}".rstrip()


if __name__ == "__main__":
    # The help is as wide on every terminal.
    os.environ["COLUMNS"] = "100"
    for name, text in pages().items():
        Path(sys.argv[1], name).write_text(text, encoding="utf-8")
