"""Lists of prompts: text files with one prompt a line, CSV and JSON lines with an id."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import NamedTuple


class Prompt(NamedTuple):
    """A prompt. id: name of its video files. image: prompt of the first frame, if it differs."""

    id: str
    text: str
    image: str | None = None


def read_prompts(path: Path) -> list[Prompt]:
    """Read a list of prompts.

    .csv: columns "prompt" and optionally "id" and "image_prompt". .jsonl: the same keys. Any other file: one prompt per
    line; empty lines and lines that begin with # are ignored. Prompts without an id are numbered from 001.

    Raises:
        ValueError: the file is not readable, has no prompt, or has an id that is repeated or not a valid file name.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as a list of prompts: {error}.") from error
    prompts = [_prompt(path, number, row) for number, row in enumerate(_rows(path, text), 1)]
    if not prompts:
        raise ValueError(f"{path} has no prompts. Write one on each line.")
    seen: set[str] = set()
    for prompt in prompts:
        if not re.fullmatch(r"[\w-][\w.-]*", prompt.id):
            raise ValueError(f"{path}: the id {prompt.id!r} is not a valid file name. Use letters, digits, - and _.")
        if prompt.id.lower() in seen:
            raise ValueError(f"{path}: the id {prompt.id!r} occurs twice. Give each prompt a different id.")
        seen.add(prompt.id.lower())
    return prompts


def _rows(path: Path, text: str) -> list[dict]:
    try:
        if path.suffix.lower() == ".csv":
            return list(csv.DictReader(io.StringIO(text, newline="")))
        if path.suffix.lower() == ".jsonl":
            return [json.loads(line) for line in text.split("\n") if line.strip()]
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a list of prompts: {error}.") from error
    lines = [line.strip() for line in text.splitlines()]
    return [{"prompt": line} for line in lines if line and not line.startswith("#")]


def _prompt(path: Path, number: int, row: dict) -> Prompt:
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str) or not row["prompt"].strip():
        raise ValueError(f"{path}: entry {number} has no prompt. CSV needs a column named prompt, JSON lines that key.")
    given = row.get("id")
    key = f"{number:03d}" if given is None or given == "" else str(given)
    return Prompt(key, " ".join(row["prompt"].split()), row.get("image_prompt") or None)
