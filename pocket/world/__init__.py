"""The procedural world of moving shapes: scenes, captions, pictures, and a reader of pictures. Contains no models."""

from .render import SIZE, render_clips
from .scene import (
    ALL,
    CROSSING,
    FINE_TIMES,
    FPS,
    FRAMES,
    GIVEN,
    TIMES,
    Body,
    Clip,
    Scenes,
    first_times,
    sample_clips,
    showing,
)

__all__ = [
    "ALL",
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
    "Scenes",
    "first_times",
    "sample_clips",
    "showing",
]
