"""Notices: warnings about a graph that runs, but perhaps not as its user intends."""

from __future__ import annotations

import logging

from .node_text import show_complaint


def notice(text: str) -> None:
    """Log a warning, and show it on the node that is being executed."""
    logging.warning(f"Emu Video: {text}")
    show_complaint(text)
