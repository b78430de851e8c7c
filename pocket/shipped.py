"""Paths of the shipped weights."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
CHECKPOINT = WEIGHTS / "checkpoints" / "emu_video_pocket.safetensors"
VIDEO_LAYERS = WEIGHTS / "temporal_layers" / "emu_video_pocket_video.safetensors"
INTERPOLATION_LAYERS = WEIGHTS / "temporal_layers" / "emu_video_pocket_interpolation.safetensors"
