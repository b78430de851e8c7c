"""Measurements of speed, memory and quality: `python -m emu_video.benchmarks.<name>`."""
