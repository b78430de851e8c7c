"""Where a UNet's blocks are: diffusers' (down, mid, up) indices to ComfyUI's module names.

SD1.5, SD2.x and SDXL: two residual blocks per level on the way down, three on the way up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

DOWN, UP = 2, 3
BASES = {4: "sd15", 3: "sdxl"}
# Whether the levels, from the top, have spatial attention.
ATTENTION = {4: (True, True, True, False), 3: (False, True, True)}


def blocks(levels: int, middle: bool) -> Iterator[tuple[str, int, str, int]]:
    """(block of diffusers, index in it, ComfyUI's block, level) behind whose last module a motion module hangs."""
    for level in range(levels):
        for j in range(DOWN):
            yield f"down_blocks.{level}", j, f"input_blocks.{(DOWN + 1) * level + j + 1}", level
    if middle:
        yield "mid_block", 0, "middle_block", levels - 1
    for i in range(levels):
        for j in range(UP):
            yield f"up_blocks.{i}", j, f"output_blocks.{UP * i + j}", levels - 1 - i


def last_module(block: str, level: int, levels: int) -> str:
    """ComfyUI's name of the spatial transformer of a block, or of its residual block where there is none."""
    return f"{block}.1" if block == "middle_block" or ATTENTION[levels][level] else f"{block}.0"


def resnet_norms(widths: Sequence[int]) -> Iterator[tuple[str, int]]:
    """(ComfyUI's name, channels) of the group norms of all residual blocks and of the output.

    widths: of the levels, from the top.
    """
    skips, width = [widths[0]], widths[0]
    for level, wide in enumerate(widths):
        for j in range(DOWN):
            yield from _block_norms(f"input_blocks.{(DOWN + 1) * level + j + 1}.0", width, wide)
            width = wide
            skips.append(width)
        if level < len(widths) - 1:
            skips.append(width)
    for j in (0, 2):
        yield from _block_norms(f"middle_block.{j}", width, width)
    for i, wide in enumerate(reversed(widths)):
        for j in range(UP):
            yield from _block_norms(f"output_blocks.{UP * i + j}.0", width + skips.pop(), wide)
            width = wide
    yield "out.0", width


def _block_norms(block: str, width: int, wide: int) -> Iterator[tuple[str, int]]:
    yield f"{block}.in_layers.0", width
    yield f"{block}.out_layers.0", wide
