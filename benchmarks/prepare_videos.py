"""Write small, different mp4 files with captions: python -m emu_video.benchmarks.prepare_videos FOLDER COUNT."""

from __future__ import annotations

import sys
from pathlib import Path

import av
import cv2
import numpy as np

from .prepare import FRAMES, SIDE

COLOURS = ("red", "green", "blue")


def main(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        generator = np.random.default_rng(number)
        background = cv2.resize(generator.integers(0, 255, (8, 8, 3), dtype=np.uint8), (SIDE, SIDE))
        with av.open(str(folder / f"{number:05d}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=FRAMES, options={"preset": "ultrafast"})
            stream.width = stream.height = SIDE
            stream.pix_fmt = "yuv420p"
            for time in range(FRAMES):
                picture = background.copy()
                cv2.circle(picture, (20 + 3 * time, SIDE // 2), 14, (255, 255, 255), -1)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            container.mux(stream.encode(None))
        (folder / f"{number:05d}.txt").write_text(f"a {COLOURS[number % 3]} circle moving right", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
