"""What run.py does: an environment, a ComfyUI, a running server, a workflow. No part of the node pack."""
