"""Measures of videos. Each docstring states shape, range, source and known weaknesses."""
