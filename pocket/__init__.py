"""The built-in small model and its procedural world of moving shapes, on which it is trained."""
