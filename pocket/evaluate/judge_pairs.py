"""Make pairs of pocket videos of different quality, to compare the reader's votes with those of people.

Every video is made by the shipped weights with one of seven settings. Every two settings meet once on either side, so
that neither folder is the better one. Then judge the pairs on the page, and let the reader judge them:

    python run.py pocket judge_pairs --folder runs/pairs
    python run.py judge runs/pairs/a runs/pairs/b
    python run.py pocket judge runs/pairs/a runs/pairs/b
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...evaluation.videos import Video, write_lossless
from ..recipe import RECIPE
from ..shipped import CHECKPOINT
from ..stages.run import Run
from ..world import FPS
from .gates import decode, pictures_from_text, video_model, videos_from_first
from .text_to_video import prompts


@dataclass(frozen=True)
class Setting:
    """Sampling steps and guidance of the first frame, and of the video."""

    picture_steps: int = 6
    picture_text: float = 3.0
    steps: int = 6
    text: float = 2.0
    image: float = 1.0


SETTINGS = {
    "usual": Setting(),
    "few steps of the first frame": Setting(picture_steps=2),
    "strong text in the first frame": Setting(picture_text=12.0),
    "few steps": Setting(steps=2),
    "no text": Setting(text=0.0),
    "strong text": Setting(text=9.0),
    "weak image": Setting(image=0.3),
}
ARMS = "a", "b"


def pairs(seed: int, count: int) -> list[dict]:
    """Return `count` pairs: a prompt for every two of them, and the names of two settings. 42 have all combinations."""
    rng = np.random.default_rng(seed)
    texts = [prompt["text"] for prompt in prompts(seed, -(-count // 2))]
    rng.shuffle(texts)
    two = list(itertools.permutations(SETTINGS, 2))
    rng.shuffle(two)
    return [
        {"name": f"{i:03d}", "text": texts[i // 2], **dict(zip(ARMS, map(str, two[i % len(two)]), strict=True))}
        for i in range(count)
    ]


class Maker:
    """The shipped weights, without ComfyUI."""

    def __init__(self, folder: Path):
        self.run = Run(folder, RECIPE, CHECKPOINT)
        self.image_model, self.with_layers = self.run.image_model(), video_model(self.run)

    def video(self, text: str, setting: Setting, seed: int) -> np.ndarray:
        """Return a video, uint8 [T, h, w, 3]."""
        first = pictures_from_text(self.image_model, [text], setting.picture_steps, setting.picture_text, seed=seed)
        guidance = {"text": setting.text, "image": setting.image}
        latents = videos_from_first(self.with_layers, first, [text], steps=setting.steps, seed=seed, **guidance)
        return decode(self.run, latents[0])


def main(count: int, seed: int, folder: Path) -> None:
    chosen = pairs(seed, count)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps({"seed": seed, "pairs": chosen}, indent=1), "utf-8")
    maker = Maker(folder)
    for number, pair in enumerate(chosen):
        for arm in ARMS:
            path = folder / arm / f"{pair['name']}.mkv"
            if not path.exists():
                frames = maker.video(pair["text"], SETTINGS[pair[arm]], len(ARMS) * number + (arm == "b"))
                write_lossless(path, Video(frames, FPS))
                path.with_suffix(".txt").write_text(pair["text"], "utf-8")
        print(f"{number + 1} of {count} pairs", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("runs/pairs"))
    main(**vars(parser.parse_args()))
