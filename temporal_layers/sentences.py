"""Wording of error messages about the contents of files."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

TAGS = ("discrete", "flow")  # pydantic adds the type's tag to the location of a fault in a union


def first_fault(error: ValidationError) -> str:
    """Return a sentence about the first value that a schema refuses: its name, the value and what is expected."""
    fault = error.errors(include_url=False, include_context=False)[0]
    name = ".".join(str(part) for part in fault["loc"] if part not in TAGS) or "it"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f'the entry "{short(name)}" is missing'
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f'the entry "{short(name)}" is unknown'
    return f'"{short(name)}" is {shown(fault["input"])}: {message[:1].lower()}{message[1:]}'


def shown(value: Any) -> str:
    """Return a value as text of at most 80 characters."""
    return short(repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "a very large number")


def short(text: str, length: int = 80) -> str:
    """Return the text on one line, cut to `length` characters."""
    text = text.replace("\n", " ")
    return text if len(text) <= length else f"{text[: length - 3]}..."
