"""Names and paths of the shipped weights.

`SHIPPED` is the name of the recipe that made them. Graphs, measurements and templates take their file names from here:
after a change, run `python -m emu_video.docs.templates` and delete the files of the earlier recipe.
"""

from pathlib import Path

SHIPPED = "pocket2"
WEIGHTS = Path(__file__).parent / "weights"


def checkpoint_file(recipe: str = SHIPPED) -> str:
    """Return the file name of a recipe's checkpoint."""
    return f"emu_video_{recipe}.safetensors"


def layers_file(role: str, recipe: str = SHIPPED) -> str:
    """Return the file name of a recipe's temporal layers of one role."""
    return f"emu_video_{recipe}_{role}.safetensors"


CHECKPOINT = WEIGHTS / "checkpoints" / checkpoint_file()
VIDEO_LAYERS, INTERPOLATION_LAYERS, SUPER_RESOLUTION_LAYERS = (
    WEIGHTS / "temporal_layers" / layers_file(role) for role in ("video", "interpolation", "super_resolution")
)
