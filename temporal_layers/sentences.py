"""Sentences for what is wrong in a file."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

TAGS = ("discrete", "flow")  # which pydantic puts into the place of a fault in one of several types


def first_fault(error: ValidationError) -> str:
    """Say what is wrong with the first value that a schema refuses: its name, the value, what is expected."""
    fault = error.errors(include_url=False, include_context=False)[0]
    name = ".".join(str(part) for part in fault["loc"] if part not in TAGS) or "it"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f'the entry "{short(name)}" is missing'
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f'the entry "{short(name)}" is unknown'
    return f'"{short(name)}" is {shown(fault["input"])}: {message[:1].lower()}{message[1:]}'


def shown(value: Any) -> str:
    """Return a value as text of at most a line."""
    return short(repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "a very large number")


def short(text: str, length: int = 80) -> str:
    """Cut text that would fill the screen, and keep it on one line."""
    text = text.replace("\n", " ")
    return text if len(text) <= length else f"{text[: length - 3]}..."
