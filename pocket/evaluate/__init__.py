"""Measurements of the shipped pocket model, made through the shipped graphs on a ComfyUI server."""
