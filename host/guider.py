"""Guidance with an image and a text weight (Emu Video, equation 1) as a ComfyUI GUIDER."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher
import comfy.samplers
from torch import Tensor

from ..diffusion.guidance import emu_guidance, rescale_guidance
from .injection import check_layers
from .zero_snr import signal_and_noise


class EmuVideoGuider(comfy.samplers.CFGGuider):
    """Three conditionings: `positive` has text and image, `image_only` the image, `negative` neither."""

    image_guidance = 2.0
    text_guidance = 7.5
    guidance_rescale = 0.0

    def set_conds(self, positive: list, image_only: list, negative: list) -> None:
        self.inner_set_conds({"positive": positive, "image_only": image_only, "negative": negative})

    def set_guidance(self, image_guidance: float, text_guidance: float, guidance_rescale: float = 0.0) -> None:
        self.image_guidance, self.text_guidance = image_guidance, text_guidance
        self.guidance_rescale = guidance_rescale
        self.cfg = text_guidance  # what ComfyUI logs, and hands to post-cfg functions

    def predict_noise(
        self,
        x: Tensor,
        timestep: Tensor,
        model_options: dict[str, Any] | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """x0, [frames, C, h, w]. A conditioning whose weight in the sum is 0 is not evaluated."""
        model_options = model_options or {}
        positive, image_only, negative = (self.conds[k] for k in ("positive", "image_only", "negative"))
        if not model_options.get("disable_cfg1_optimization", False):
            if self.image_guidance == 1.0:
                negative = None
            if self.image_guidance == self.text_guidance:
                image_only = None
            if self.text_guidance == 0.0 and self.guidance_rescale == 0.0:
                positive = None
        conds: list[Any] = [negative, image_only, positive]
        uncond, image, full = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options)
        x0 = emu_guidance(uncond, image, full, self.image_guidance, self.text_guidance)
        if self.guidance_rescale:
            x0 = self.rescale(x, x0, full, float(timestep[0]))
        for function in model_options.get("sampler_post_cfg_function", []):
            x0 = function(
                {
                    "denoised": x0, "cond": positive, "uncond": negative, "cond_scale": self.cfg,
                    "model": self.inner_model, "cond_denoised": full, "uncond_denoised": uncond,
                    "sigma": timestep, "model_options": model_options, "input": x,
                }
            )  # fmt: skip
        return x0

    def rescale(self, x: Tensor, x0: Tensor, full: Tensor, sigma: float) -> Tensor:
        """Guidance rescale on v = (alpha x_vp - x0) / sigma; sigma cancels."""
        a, b = signal_and_noise(self.inner_model.model_sampling, sigma)
        signal = x * (a / (a * a + b * b))
        known = self.conds["positive"][0].get("noise_concat")
        frames = len(x) if known is None else len(known)
        return signal - rescale_guidance(signal - x0, signal - full, self.guidance_rescale, frames)


def make_guider(
    model: comfy.model_patcher.ModelPatcher,
    positive: list,
    image_only: list,
    negative: list,
    text_guidance: float,
    image_guidance: float,
    guidance_rescale: float,
) -> EmuVideoGuider:
    """Raises ValueError where the MODEL has no temporal layers to take the conditionings' known frames."""
    check_layers(model)
    guider = EmuVideoGuider(model)
    guider.set_conds(positive, image_only, negative)
    guider.set_guidance(image_guidance, text_guidance, guidance_rescale)
    return guider
