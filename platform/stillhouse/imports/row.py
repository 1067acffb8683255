"""What every format becomes: one query with some of its passages; and the checks that a format's fields pass."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

from stillhouse.artifacts import text_hash


class Passage(NamedTuple):
    doc_id: str
    """Empty where the source names none: the text tells which document it is."""
    grade: int | None = None
    """Above 0: relevant; None: not judged."""
    score: float | None = None
    """The teacher's, higher is better; None: not scored."""
    rank: int | None = None
    """Place among the candidates, from 0; None: not a candidate."""
    text: str | None = None
    title: str = ""


class Row(NamedTuple):
    query_id: str
    """Empty where the source names none."""
    passages: tuple[Passage, ...]
    query: str | None = None
    """The query's text, where the source has it."""


class MalformedError(Exception):
    """What a format promises at this place, and what stands there instead."""

    def __init__(self, expected: str, got: object) -> None:
        shown = got if isinstance(got, str) else json.dumps(got, ensure_ascii=False, default=str)
        super().__init__(f"expected {expected}, got {shown if len(shown) <= 100 else shown[:97] + '...'}")


def identifier(value: object, field: str) -> str:
    """An id as a string; integers are ids too."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or value.split() != [value]:
        raise MalformedError(f"{field} to be an id without white space", value)
    return string(value, field)


def string(value: object, field: str) -> str:
    """A text that can be written as UTF-8."""
    if not isinstance(value, str):
        raise MalformedError(f"{field} to be a string", value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise MalformedError(f"{field} to be text without lone surrogates", ascii(value)) from None
    return value


def filled(value: object, field: str) -> str:
    """A text with something in it."""
    if not string(value, field).strip():
        raise MalformedError(f"{field} to be a text that is not empty", value)
    return str(value)


def score(value: object, field: str) -> float:
    """A finite number, or digits that mean one."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise MalformedError(f"{field} to be a finite number", value)
    return number


def items(value: object, field: str) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedError(f"{field} to be a list", value)
    return value


def json_object(raw: object) -> dict[str, Any]:
    """A line of JSON, or a row that is read already, as an object."""
    value = raw
    if isinstance(raw, str):
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise MalformedError("a JSON object", f"{raw[:60]} ({error})") from None
    if not isinstance(value, dict):
        raise MalformedError("a JSON object", value)
    return value


def field_of(row: dict[str, Any], *names: str) -> Any:
    """The value under the first of the names that the row has."""
    for name in names:
        if name in row:
            return row[name]
    raise MalformedError(f"a field {' or '.join(names)}", f"the fields {', '.join(row) or '(none)'}")


def full_text(title: str, text: str) -> str:
    """Title and text as a collection folder joins them."""
    return "\n".join(part for part in (title.strip(), text.strip()) if part)


def named_by_text(prefix: str, text: str) -> str:
    """The id of a query or document whose source gives it none: equal for equal texts."""
    return prefix + text_hash(text)[:16]
