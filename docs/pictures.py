"""Turns a saved video into the README's moving picture or a template's preview picture.

python docs/pictures.py output/emu_video_00001_.mp4 docs/red_circle_moving_right.gif
python docs/pictures.py output/emu_video_00001_.mp4 "workflows/Text-to-Video-Pocket.jpg"
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
from PIL import Image

SIDE = 256  # pixels; smaller frames are enlarged
PAUSE = 700  # ms on the last frame


def frames(video: Path) -> tuple[list[Image.Image], int]:
    """Return the frames, enlarged to SIDE, and the milliseconds of each."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate or 8
        pictures = [frame.to_image() for frame in container.decode(stream)]
    scale = max(1, SIDE // pictures[0].width)
    large = [p.resize((p.width * scale, p.height * scale), Image.Resampling.LANCZOS) for p in pictures]
    return large, round(1000 / rate)


def sheet(pictures: list[Image.Image], columns: int = 4, gap: int = 4, most: int = 16) -> Image.Image:
    """All pictures, or every n-th of more than `most`."""
    pictures = pictures[:: -(-len(pictures) // most)]
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for i, picture in enumerate(pictures):
        page.paste(picture, (i % columns * (width + gap), i // columns * (height + gap)))
    return page


def main(video: Path, target: Path) -> None:
    pictures, duration = frames(video)
    if target.suffix == ".gif":
        durations = [*[duration] * (len(pictures) - 1), PAUSE]
        pictures[0].save(target, save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    else:
        sheet(pictures).save(target, quality=90)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
