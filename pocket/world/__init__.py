"""The procedural world of moving shapes: scenes, captions, pictures, and a reader of pictures. Holds no models."""

from .render import SIZE, render_clips
from .scene import CROSSING, FINE_TIMES, FPS, FRAMES, GIVEN, TIMES, Body, Clip, sample_clip, sample_clips

__all__ = [
    "CROSSING",
    "FINE_TIMES",
    "FPS",
    "FRAMES",
    "GIVEN",
    "SIZE",
    "TIMES",
    "Body",
    "Clip",
    "render_clips",
    "sample_clip",
    "sample_clips",
]
