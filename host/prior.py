"""Videos that temporal layers make before training, for prior preservation (`training.prior`)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.sample
import comfy.utils
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from ..temporal_layers.info import LayersInfo
from ..training.checkpoint import written_whole
from ..training.clips import Clips, Conds, MemoryClips, mixed_seed
from ..training.prior import expand
from ..training.recipe import Recipe
from .conditioning import Augmented, NoiseAugmentation, conditionings, network_latents
from .fingerprint import fingerprint, fingerprint_of
from .guider import make_guider
from .injection import inject, without_layers
from .layouts import known_at
from .sampling import sample

IMAGE_CFG = {"pocket": 3.0, "pocket2": 3.0}
CFG = 7.5

Layers = tuple[dict[str, Tensor], LayersInfo]


def prior_clips(
    model: comfy.model_patcher.ModelPatcher,
    recipe: Recipe,
    layers: Layers,
    *,
    clips: Clips,
    encode: Callable[[str], Conds],
    folder: Path,
    should_stop: Callable[[], bool] | None = None,
) -> MemoryClips:
    """Return videos of the recipe's `prior_prompts` by the layers that training starts from, in the size of the clips.

    Layers that read known frames continue a first frame, which the image model makes. Each video is written into
    `folder`, and read again when a run continues.

    Args:
        layers: state dict and info of the layers.
        should_stop: called after each video.

    Raises:
        InterruptProcessingException: the user pressed Cancel, or `should_stop` returned True.
    """
    captions = expand(recipe.prior_prompts, recipe.prior_clips, recipe.seed)
    made_by = {
        "captions": captions, "seed": recipe.seed, "steps": recipe.sample_steps, "clips": clips.key,
        "base": fingerprint(model.model.diffusion_model, model), "layers": fingerprint_of(layers[0]),
    }  # fmt: skip
    key = hashlib.sha256(json.dumps(made_by).encode()).hexdigest()
    files = [folder / f"prior-{key[:12]}" / f"{number:05}.safetensors" for number in range(len(captions))]
    texts = {caption: encode(caption) for caption in dict.fromkeys(captions)}
    if missing := [number for number, file in enumerate(files) if not file.is_file()]:
        maker = _Maker(model, layers, clips.null, clips.shape(0), recipe.sample_steps)
        bar = comfy.utils.ProgressBar(len(missing))
        for number in tqdm(missing, desc="videos of known motions", unit="video"):
            video = maker.video(texts[captions[number]], mixed_seed(recipe.seed, number))
            with written_whole(files[number]) as temporary:
                save_file({"latents": video}, temporary)
            bar.update(1)
            comfy.model_management.throw_exception_if_processing_interrupted()
            if should_stop and should_stop():
                raise comfy.model_management.InterruptProcessingException
    latents = torch.stack([load_file(file)["latents"] for file in files])
    return MemoryClips(
        latents, [texts[caption] for caption in captions], clips.null, fps=clips.fps, captions=captions, key=key
    )


class _Maker:
    """Text to video with ComfyUI's samplers: a first frame by the image model where the layers read one, then all."""

    def __init__(self, model: comfy.model_patcher.ModelPatcher, layers: Layers, null: Conds, shape: tuple, steps: int):
        state_dict, self.info = layers
        self.steps = steps
        self.image = without_layers(model)
        self.video_model = inject(self.image, state_dict, self.info, "the layers to start from")
        self.null, self.shape = _conditioning(null), shape
        self.given = Augmented(self.info, known_at((0,), shape[0]), NoiseAugmentation())
        self.process_in = model.model.latent_format.process_in

    def video(self, text: Conds, seed: int) -> Tensor:
        """Return latents [T, C, h, w] in the scale of the network."""
        frames, *size = self.shape
        positive = _conditioning(text)
        if self.info.conditioning_channels:
            cfg = IMAGE_CFG.get(self.info.base, CFG)
            first = self._sample(self.image, torch.zeros(1, *size), positive, seed, cfg)
            channels = self.given.channels(network_latents(self.video_model, first), self.given.layout.windows[0])
            made = conditionings(channels, positive, self.null, role="video")
            text_guidance, image_guidance = self.info.guidance
            guider = make_guider(
                self.video_model, *made[:3],
                text_guidance=text_guidance, image_guidance=image_guidance, guidance_rescale=0.0,
            )  # fmt: skip
            latents = sample(guider, made[3], seed, self.steps, 0.0, shows_progress=False)["samples"]
        else:
            latents = self._sample(self.video_model, torch.zeros(frames, *size), positive, seed, CFG)
        return self.process_in(latents.cpu().float()).clone()

    def _sample(self, model, latents: Tensor, positive: list, seed: int, cfg: float) -> Tensor:
        noise = comfy.sample.prepare_noise(latents, seed)
        return comfy.sample.sample(
            model, noise, self.steps, cfg, "euler", "simple", positive, self.null, latents, disable_pbar=True, seed=seed
        )


def _conditioning(text: Conds) -> list:
    options = {name: value[None] for name, value in text.items() if name != "cross_attn"}
    return [[text["cross_attn"][None], options]]
