"""The autoencoder's decoder alone, on latents as sampling leaves them. The encoder stays, and with it all latents.

Sampled latents have errors that neighbouring cells share. A decoder that only saw encoded frames turns them into
blotches and bent edges, and it never saw the brightness between that of a first and a last frame.
"""

from __future__ import annotations

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from ...diffusion.sampler import ddim
from ...diffusion.schedule import Schedule, add_noise
from ...training.known_frames import first_frames
from ...training.loop import train
from ..model.autoencoder import Autoencoder
from ..model.denoiser import Denoiser
from ..model.text_encoder import tokens_of
from ..recipe import DecoderStage, LayersStage
from .clips import encode_clips, scenes_of, step_generator
from .crops import Frames, edge_weights, picture_error
from .layers import video_model
from .run import Run, save_tensors

CELL = 8  # pixels of a latent
SHAPES_IN_VIEW, ANYWHERE = 0.25, 1.0
"""Largest distance between the middles of a crop and of a shape. Half of the crops are anywhere, many of them at the
sides and in the corners of the frame, where no shape hides blotches."""
AT_ONCE = 16  # clips sampled together, with the same noise level


def make(run: Run, name: str, **options) -> None:
    """Train the stage and save its result. options: see `training.loop.train`."""
    stage = run.stage(name, DecoderStage)
    latents, frames = sampled_clips(run, name).to(run.device), Frames.of(stage.clips, run.device)
    model = Autoencoder.of(run.load("autoencoder"))
    model.taesd_encoder.requires_grad_(False)
    model.to(run.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def loss(step: int, positions: range) -> tuple[Tensor, dict[str, float]]:
        generator = step_generator(stage.seed, step, run.device)
        reach = torch.tensor([[SHAPES_IN_VIEW, ANYWHERE][i % 2] for i in positions], device=run.device)
        crops = frames.draw(len(positions), stage.crop, reach, generator, grid=CELL)
        inputs = crops.cut(latents, CELL).float().contiguous(memory_format=torch.channels_last)
        with torch.autocast(run.device.type, torch.bfloat16):
            decoded = model.decode(inputs)
        error = decoded.float() - crops.cut(frames.pictures).float() / 255
        psnr = -10 * error.square().mean().log10()
        weight = edge_weights(crops.cut(frames.covered[:, :, None]).float())
        return picture_error(error, weight), {"psnr": psnr.item()}

    result = train({"autoencoder": model}, loss, stage.settings, run.folder, run.name(name), **options)
    if not result.stopped:
        run.save(name, result.average["autoencoder"])


def sampled_clips(run: Run, name: str) -> Tensor:
    """Return the latents of the stage's clips after noise and denoising, [n, T, C, h, w] float16, made once for a run.

    All steps of one clip start from the same noise level; every other batch has none.
    """
    path = run.folder / f"{run.name(name)}_clips.safetensors"
    if not path.exists():
        stage = run.stage(name, DecoderStage)
        exact, scenes = encode_clips(run, stage.clips).latents, scenes_of(stage.clips)
        image = run.image_model(run.stage(stage.layers, LayersStage).image)
        model = video_model(image, run.recipe.base, run.load(stage.layers))
        schedule = Schedule.from_betas(zero_terminal_snr=True)
        made = []
        for number, start in enumerate(range(0, len(exact), AT_ONCE)):
            x0 = exact[start : start + AT_ONCE].float().to(run.device)
            captions = [scene.caption for scene in scenes[start : start + AT_ONCE]]
            if number % 2:
                x0 = denoised(
                    model, x0, captions, stage, schedule, generator=step_generator(stage.seed, number, run.device)
                )
            made.append(x0.half().cpu())
            print(f"clips for the decoder: {start + len(x0)} of {len(exact)}", flush=True)
        save_tensors(path, {"latents": torch.cat(made)}, {"stage": name})
    return load_file(path)["latents"]


@torch.no_grad()
def denoised(
    model: Denoiser,
    x0: Tensor,
    captions: list[str],
    stage: DecoderStage,
    schedule: Schedule,
    *,
    generator: torch.Generator,
) -> Tensor:
    """Add noise of a random level to latents [n, T, C, h, w] and sample back, with the first frame and text known."""
    count, frames = x0.shape[:2]
    context, pooled = (each.repeat_interleave(frames, 0) for each in model.encode(tokens_of(captions).to(x0.device)))
    known = first_frames(x0, torch.zeros(count, dtype=torch.bool, device=x0.device)).flatten(0, 1)
    level = int(torch.randint(1, stage.most_noise + 1, (), generator=generator, device=generator.device))
    times = np.linspace(level, 0, stage.steps, endpoint=False).round().astype(int).tolist()
    noise = torch.randn(x0.shape, generator=generator, device=x0.device).flatten(0, 1)
    noisy = add_noise(x0.flatten(0, 1), noise, torch.full((len(noise),), level), schedule)

    def denoise(x: Tensor, t: int) -> Tensor:
        return model(torch.cat([x, known], 1), torch.full((len(x),), t, device=x.device), context, pooled).float()

    return ddim(denoise, noisy, schedule, times, eta=1.0, generator=generator).unflatten(0, (count, frames))
