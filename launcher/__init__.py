"""Implementation of run.py: environment, ComfyUI, server, commands. ComfyUI does not load this package."""
