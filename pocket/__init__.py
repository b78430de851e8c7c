"""The embedded default: a procedural world of moving shapes and the small models trained on it."""
