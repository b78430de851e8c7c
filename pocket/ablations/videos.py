"""Make the videos of an arm: the same captions, noise and steps for all arms, without a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...diffusion.guidance import emu_guidance
from ...diffusion.sampler import ddim
from ...evaluation.videos import Video, write_lossless
from ...training.clips import mixed_seed
from ...training.known_frames import first_frames
from ..evaluate.gates import picture_denoiser
from ..model.text_encoder import tokens_of
from ..world import FPS, FRAMES, Clip
from .arms import Lab, schedule_of, trained
from .data import encode, judged_scenes
from .recipes import ARMS, HIGH, IMAGE_GUIDANCE, Arm, Side

AT_ONCE = 4  # videos


def video_path(lab: Lab, side: Side, prompt: int, seed: int) -> Path:
    """Return the file of one video. The folders of two arms can be given to `run.py judge`."""
    return lab.folder / "videos" / side.folder / f"{prompt:03d}_{seed}.mkv"


def make_videos(lab: Lab, side: Side, seed: int) -> None:
    """Write the videos of a trained arm that are missing, with their captions beside them."""
    scenes = judged_scenes(lab.scale.prompts)
    paths = [video_path(lab, side, number, seed) for number in range(len(scenes))]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    if not missing:
        return
    maker = Maker(lab, ARMS[side.arm], seed)
    for start in range(0, len(missing), AT_ONCE):
        numbers = missing[start : start + AT_ONCE]
        videos = maker.videos([scenes[number] for number in numbers], numbers, side)
        for number, frames in zip(numbers, videos, strict=True):
            paths[number].parent.mkdir(parents=True, exist_ok=True)
            paths[number].with_suffix(".txt").write_text(scenes[number].caption, "utf-8")
            write_lossless(paths[number], Video(frames, FPS))


class Maker:
    """A trained arm that makes videos."""

    def __init__(self, lab: Lab, arm: Arm, seed: int):
        self.lab, self.arm, self.seed = lab, arm, seed
        self.model, self.layers = trained(lab, arm, seed)
        self.schedule = schedule_of(arm.base)
        self.shape = self.model.unet.shape.latent_channels, HIGH // 8, HIGH // 8

    @torch.no_grad()
    def videos(self, scenes: list[Clip], numbers: list[int], side: Side) -> np.ndarray:
        """Return videos, uint8 [n, T, h, w, 3]. numbers: of the scenes, which seed their noise."""
        captions = [scene.caption for scene in scenes]
        if self.arm.known_frames == "none":
            first = None
        elif side.own_frames:
            first = self.first_frames(captions, numbers, side.pictures)
        else:
            first = encode(self.lab.autoencoder, scenes, HIGH).latents[:, 0].float()
        latents = self.videos_from(first, captions, numbers, side.guidance)
        frames = self.lab.autoencoder.pictures(latents.flatten(0, 1))
        return frames.reshape(*latents.shape[:2], *frames.shape[1:])

    def first_frames(self, captions: list[str], numbers: list[int], guidance: float) -> Tensor:
        """Return latents [n, C, h, w] that the image model makes from captions, without the temporal layers."""
        denoise = picture_denoiser(self.model, captions, guidance)
        self.layers.frames = 1
        made = self._ddim(denoise, torch.stack([self._noise(number, 1)[0] for number in numbers]))
        self.layers.frames = FRAMES
        return made

    def videos_from(self, first: Tensor | None, captions: list[str], numbers: list[int], guidance: float) -> Tensor:
        """Return latents [n, T, C, h, w] from first frames [n, C, h, w], or from the captions alone."""
        said, empty = (self.model.encode(tokens_of(texts)) for texts in (captions, [""] * len(captions)))
        context, pooled = (torch.cat(pair).repeat_interleave(FRAMES, 0) for pair in zip(said, empty, strict=True))
        x0 = torch.zeros(len(captions), FRAMES, *self.shape)
        if first is not None:
            x0[:, 0] = first
        known = first_frames(x0, torch.full((len(captions),), first is None)).flatten(0, 1)
        known = torch.cat([known, known])

        def denoise(x: Tensor, t: int) -> Tensor:
            inputs = torch.cat([torch.cat([x, x]), known], 1)
            full, pictured = self.model(inputs, torch.full((len(inputs),), t), context, pooled).float().chunk(2)
            # With an image guidance of 1, equation 1 needs no unconditional prediction.
            return emu_guidance(torch.zeros_like(full), pictured, full, IMAGE_GUIDANCE, guidance)

        noise = torch.cat([self._noise(number, 0) for number in numbers])
        return self._ddim(denoise, noise).unflatten(0, (len(captions), FRAMES))

    def _noise(self, number: int, step: int) -> Tensor:
        """Return the noise of a video, the same for all arms. step: 1 for its first frame."""
        generator = torch.Generator().manual_seed(mixed_seed(number, self.seed, step))
        return torch.randn(FRAMES, *self.shape, generator=generator)

    def _ddim(self, denoise: Callable[[Tensor, int], Tensor], noise: Tensor) -> Tensor:
        times = self.schedule.trailing_timesteps(self.lab.scale.sampling)
        return ddim(denoise, noise, self.schedule, times, prediction=self.arm.base.prediction)
