"""What a measurement leaves behind: rows that count as long as what made and what judged them stays the same."""

import hashlib
import json
from pathlib import Path

from ..training.checkpoint import written_whole


def load_rows(result: Path, files: tuple[Path, ...], **settings) -> dict:
    """The state of an earlier run into `result` if `files` and `settings` were the same, else a state without rows."""
    measured = {**settings, "sha256": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}}
    state = json.loads(result.read_text()) if result.exists() else {}
    return state if state.get("measured") == measured else {"measured": measured}


def save_rows(result: Path, state: dict) -> None:
    with written_whole(result) as temporary:
        temporary.write_text(json.dumps(state, indent=1) + "\n")
