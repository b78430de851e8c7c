"""Preparation of training clips: from a folder of videos and captions to shards of latents and text embeddings.

Reads videos with PyAV and Pillow, and encodes through functions that the caller passes in. Imports no ComfyUI.
"""
