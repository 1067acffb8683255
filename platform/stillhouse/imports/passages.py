"""Passages and queries that come with their texts, as several formats write them."""

from __future__ import annotations

from typing import Any

from stillhouse.imports.row import MalformedError, Passage, field_of, filled, identifier, string


def passage(item: object, field: str, **facts: Any) -> Passage:
    """From `docid` (or `passage_id`, `psg_id`; none: named by its text), `title` and `text`."""
    if not isinstance(item, dict):
        raise MalformedError(f"{field} to be an object with text", item)
    value = next((item[name] for name in ("docid", "passage_id", "psg_id") if item.get(name) not in (None, "")), None)
    doc_id = "" if value is None else identifier(value, f"{field}.docid")
    title = string(item.get("title") or "", f"{field}.title")
    text = string(field_of(item, "text"), f"{field}.text")
    return (
        Passage(doc_id, **facts, text=text, title=title)
        if title
        else Passage(doc_id, **facts, text=filled(text, f"{field}.text"))
    )


def query_id(row: dict[str, Any]) -> str:
    """`query_id` or `qid`; empty where a row has neither."""
    value = row.get("query_id", row.get("qid"))
    return "" if value in (None, "") else identifier(value, "query_id")
