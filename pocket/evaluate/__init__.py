"""Measurements of the shipped pocket model, with the shipped graphs on a ComfyUI server."""
