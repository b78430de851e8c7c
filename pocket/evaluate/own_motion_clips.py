"""Write videos of a motion that the pocket does not know, to train it on files as a user would.

orbits: a shape moves clockwise once around a circle. Captions do not name the motion ("a green star on a black
background"). diagonals: a shape moves along both axes ("a red circle moving up right on a blue background"). The pocket
knows these words, but was not trained on their combination.

One in six combinations of colour and shape is held out for the test, see `prompts`.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ..world.motions import FRAMES, MARGIN
from ..world.render import render_clips
from ..world.scene import FPS, Body, Clip
from ..world.vocabulary import BACKGROUNDS, COLOURS, SHAPES, held_out

DIAGONALS = {"up right": (1, -1), "up left": (-1, -1), "down right": (1, 1), "down left": (-1, 1)}
RADII = {"orbits": (0.13, 0.31), "diagonals": (0.11, 0.17)}
"""Sizes of the shapes in frames. Without a word for size or motion the image model draws them large, and layers that
were trained on small shapes alone do not move large ones."""
MOTIONS = tuple(RADII)
COUNT = 200
BATCH = 20  # clips drawn at the same time


def scene(rng: np.random.Generator, motion: str, unseen: bool = False) -> tuple[Clip, str]:
    """Return a scene with its caption, and the diagonal along which the shape moves ("" for an orbit).

    unseen: Whether colour and shape are a held-out combination.
    """
    while True:
        colour, shape = str(rng.choice(list(COLOURS))), str(rng.choice(SHAPES))
        if held_out(colour, shape, motion) == unseen:
            break
    background = str(rng.choice([name for name in BACKGROUNDS if name != colour]))
    radius = rng.uniform(*RADII[motion])
    way = str(rng.choice(list(DIAGONALS))) if motion == "diagonals" else ""
    x, y = _orbit(rng, radius) if motion == "orbits" else _diagonal(rng, radius, DIAGONALS[way])
    words = " ".join(f"a {colour} {shape} {f'moving {way}' if way else ''} on a {background} background".split())
    rgb, backdrop = (np.clip(np.array(known) + rng.uniform(-6, 6, 3), 0, 255)
                     for known in (COLOURS[colour], BACKGROUNDS[background]))  # fmt: skip
    still = np.full(FRAMES, rng.uniform(-0.08, 0.08))
    body = Body(shape, colour, motion, words, rgb, x, y, np.full(FRAMES, radius), still)
    shading = rng.uniform(-0.12, 0.12, 2) * (rng.random() < 0.5)
    return Clip(words, background, backdrop, shading, np.ones(FRAMES), [body]), way


def _orbit(rng: np.random.Generator, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a clockwise path around a circle, whose centre is between the start and the middle of the frame."""
    room = 0.5 - radius - MARGIN
    distance, angle = room * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    size = min(0.22, (room + distance) / 2)
    outward = np.array([np.cos(angle), np.sin(angle)])
    centre = 0.5 + (distance - size) * outward
    turned = angle + np.linspace(0, 2 * np.pi, FRAMES)
    return centre[0] + size * np.cos(turned), centre[1] + size * np.sin(turned)


def _diagonal(rng: np.random.Generator, radius: float, way: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return a straight path inside the frame, with the same distance along both axes."""
    low, high = radius + MARGIN, 1 - radius - MARGIN
    travel = min(rng.uniform(0.26, 0.4), high - low)
    paths = []
    for sign in way:
        start = low + (high - low - travel) * rng.random()
        path = start + travel * np.linspace(0, 1, FRAMES)
        paths.append(path if sign > 0 else path[::-1])
    return paths[0], paths[1]


def scenes(motion: str, count: int, seed: int, unseen: bool = False) -> list[tuple[Clip, str]]:
    """Return `count` scenes with their diagonals; the same seed gives the same scenes."""
    if motion not in MOTIONS:
        raise ValueError(f"There is no motion {motion!r}: use {' or '.join(MOTIONS)}.")
    rng = np.random.default_rng(seed)
    return [scene(rng, motion, unseen) for _ in range(count)]


def prompts(motion: str, count: int, seed: int) -> list[dict]:
    """Return held-out captions for the test: text, colour, shape and diagonal."""
    found = scenes(motion, count, seed, unseen=True)
    return [
        {"text": clip.caption, "colour": clip.bodies[0].colour, "shape": clip.bodies[0].shape, "way": way}
        for clip, way in found
    ]


def write(folder: Path, motion: str, count: int = COUNT, seed: int = 0) -> None:
    """Write `count` mp4 files of 8 frames, and a text file with the caption of each.

    Raises:
        ValueError: `folder` is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: give a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    clips = [clip for clip, _ in scenes(motion, count, seed)]
    for start in range(0, count, BATCH):
        batch = clips[start : start + BATCH]
        for number, (clip, frames) in enumerate(zip(batch, render_clips(batch)[0], strict=True), start=start):
            _write_mp4(folder / f"{motion}_{number:04d}.mp4", frames.permute(0, 2, 3, 1).numpy())
            (folder / f"{motion}_{number:04d}.txt").write_text(clip.caption + "\n", "utf-8")


def _write_mp4(path: Path, frames: np.ndarray) -> None:
    """frames: uint8 RGB [T, h, w, 3]."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=Fraction(FPS), options={"crf": "12"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--motion", choices=MOTIONS, default="orbits")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    write(given.folder, given.motion, given.count, given.seed)
    print(f"{given.count} videos with captions are in {given.folder}.")
