"""Text on the node that is being executed, shown by ComfyUI's front end."""

from __future__ import annotations

from comfy_execution.utils import get_executing_context

NO_COMPLAINT = "All words are known."

_complained: set[str] = set()  # ids of nodes that show a complaint


def show_complaint(complaint: str) -> None:
    """Show a warning on the node that is being executed. "" replaces an earlier warning by NO_COMPLAINT.

    Nothing is shown outside of an execution or without ComfyUI's server.
    """
    context = get_executing_context()
    if context is None or not (complaint or context.node_id in _complained):
        return
    from server import PromptServer  # ComfyUI's; only here, because it is slow to import without a server

    server = getattr(PromptServer, "instance", None)
    if server is None:
        return
    server.send_progress_text(complaint or NO_COMPLAINT, context.node_id)
    (_complained.add if complaint else _complained.discard)(context.node_id)
