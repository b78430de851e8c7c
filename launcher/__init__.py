"""What run.py does: an environment, a ComfyUI, a running server, a workflow. Nothing here is part of the pack."""
