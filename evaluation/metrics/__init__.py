"""Measures of videos. Each function states shape, range and source, and what fools it."""
