"""Guidance with an image and a text weight (Emu Video, equation 1) as a ComfyUI GUIDER."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import comfy.model_patcher
import comfy.samplers
from torch import Tensor

from ..diffusion.guidance import as_two, emu_guidance, rescale_guidance
from ..temporal_layers.info import PAPER_GUIDANCE, LayersInfo
from .cfg_hooks import CFG, POST_CFG, PRE_CFG, hooks, node_of
from .injection import check_layers
from .notices import notice
from .schedule import signal_and_noise
from .values import check_finite
from .videos import FRAMES, check_parts, frames_per_video

POSITIVE, NEGATIVE, IMAGE_ONLY = range(3)  # indices of conditionings; ComfyUI has the first two
EVALUATE = "sampler_calc_cond_batch_function"
WRAPPER = "model_function_wrapper"


class EmuVideoGuider(comfy.samplers.CFGGuider):
    """Guider with three conditionings: `positive` has text and image, `image_only` the image, `negative` neither.

    Patches of other nodes (image prompts, regions) see `image_only` as a second negative, because it has the null text.
    `cfg` is the text weight, so nodes that change cfg during sampling change the text weight.
    """

    image_guidance = 2.0
    guidance_rescale = 0.0

    def set_conds(self, positive: list, image_only: list, negative: list) -> None:
        conds = {"positive": positive, "image_only": image_only, "negative": negative}
        self.inner_set_conds(share_control(conds))

    def set_guidance(self, image_guidance: float, text_guidance: float, guidance_rescale: float = 0.0) -> None:
        check_finite(image_guidance=image_guidance, text_guidance=text_guidance, guidance_rescale=guidance_rescale)
        self.image_guidance, self.cfg, self.guidance_rescale = image_guidance, text_guidance, guidance_rescale

    def predict_noise(
        self,
        x: Tensor,
        timestep: Tensor,
        model_options: dict[str, Any] | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Return x0, [frames, C, h, w]. A conditioning whose weight in the sum is 0 is not evaluated."""
        options = model_options or {}
        conds = self.weighted_conds(options)
        full, uncond, image = evaluate(self.inner_model, conds, x, timestep, options)
        if hooks(options):
            share, rest = as_two(self.image_guidance, self.cfg)
            negative = share * uncond + (1 - share) * image
            pair = Pair(self, x, timestep, options, (conds[POSITIVE], conds[NEGATIVE if share > 0.5 else IMAGE_ONLY]))
            x0 = pair.guide(full, negative) + rest * (image - uncond)
        else:
            x0 = emu_guidance(uncond, image, full, self.image_guidance, self.cfg)
        if self.guidance_rescale:
            x0 = self.rescale(x, x0, full, float(timestep[0]))
        return pair.post(x0, full, negative) if hooks(options) else x0

    def weighted_conds(self, options: dict[str, Any]) -> list[Any]:
        """Return [positive, negative, image_only], with None for each that does not affect the result."""
        positive, negative, image_only = (self.conds[key] for key in ("positive", "negative", "image_only"))
        if options.get("disable_cfg1_optimization", False):
            return [positive, negative, image_only]
        if hooks(options):
            share, rest = as_two(self.image_guidance, self.cfg)
            needed = True, share > 0 or rest != 0, share < 1 or rest != 0
        else:
            needed = (
                self.cfg != 0.0 or self.guidance_rescale != 0.0,
                self.image_guidance != 1.0,
                self.image_guidance != self.cfg,
            )
        return [cond if use else None for cond, use in zip((positive, negative, image_only), needed, strict=True)]

    def rescale(self, x: Tensor, x0: Tensor, full: Tensor, sigma: float) -> Tensor:
        """Return x0 after guidance rescale of v = (alpha x_vp - x0) / sigma; sigma cancels."""
        a, b = signal_and_noise(self.inner_model.model_sampling, sigma)
        signal = x * (a / (a * a + b * b))
        frames = frames_per_video(len(x), self.model_patcher.get_attachment(FRAMES) or 0)
        return signal - rescale_guidance(signal - x0, signal - full, self.guidance_rescale, frames)


class Pair:
    """One step in the form that CFG hooks of other nodes expect: a positive and a negative estimate, and one weight."""

    def __init__(self, guider: EmuVideoGuider, x: Tensor, timestep: Tensor, options: dict[str, Any], conds: tuple):
        self.guider, self.options, self.conds = guider, options, conds
        self.common = {
            "cond_scale": guider.cfg, "input": x, "sigma": timestep, "timestep": timestep,
            "model": guider.inner_model, "model_options": options,
        }  # fmt: skip

    def guide(self, full: Tensor, negative: Tensor) -> Tensor:
        """Return x0 after the pre-CFG functions and the CFG function (or plain guidance if there is none)."""
        out = [full, negative]
        for function in self.options.get(PRE_CFG, []):
            out = function({**self.common, "conds": list(self.conds), "conds_out": out})
        cond, uncond = self.conds
        without_post = {key: value for key, value in self.options.items() if key != POST_CFG}
        return comfy.samplers.cfg_function(
            self.guider.inner_model, out[0], out[1], self.guider.cfg, self.common["input"], self.common["sigma"],
            model_options=without_post, cond=cond, uncond=uncond,
        )  # fmt: skip

    def post(self, x0: Tensor, full: Tensor, negative: Tensor) -> Tensor:
        """Return x0 after the post-CFG functions."""
        cond, uncond = self.conds
        for function in self.options.get(POST_CFG, []):
            estimates = {"denoised": x0, "cond_denoised": full, "uncond_denoised": negative}
            x0 = function({**self.common, **estimates, "cond": cond, "uncond": uncond})
        return x0


def evaluate(model: Any, conds: list[Any], x: Tensor, timestep: Tensor, options: dict[str, Any]) -> list[Tensor]:
    """Return the estimates of x0 for [positive, negative, image_only]; zeros for a conditioning that is None."""
    function = options.get(EVALUATE)
    if function is None:
        labelled = {**options, WRAPPER: partial(label_image_only, options.get(WRAPPER))}
        return comfy.samplers.calc_cond_batch(model, conds, x, timestep, labelled)
    args = {"input": x, "sigma": timestep, "model": model, "model_options": options}
    full, uncond = function({**args, "conds": conds[:IMAGE_ONLY]})[:2]
    image = function({**args, "conds": [conds[POSITIVE], conds[IMAGE_ONLY]]})[1]
    return [full, uncond, image]


def label_image_only(wrapper: Callable | None, apply_model: Callable, args: dict[str, Any]) -> Any:
    """Call the model with image_only labelled as a negative, because patches know only the labels 0 and 1."""
    labels = [NEGATIVE if label == IMAGE_ONLY else label for label in args["cond_or_uncond"]]
    c = args["c"]
    c["transformer_options"]["cond_or_uncond"] = labels
    if wrapper is None:
        return apply_model(args["input"], args["timestep"], **c)
    return wrapper(apply_model, {**args, "cond_or_uncond": labels})


def share_control(conds: dict[str, list]) -> dict[str, list]:
    """Give image_only the ControlNet of positive and negative, because ControlNet nodes have only these two outputs.

    Otherwise the ControlNet would be part of the difference that guidance multiplies.
    """
    control = {slot: [entry[1] for entry in entries if "control" in entry[1]] for slot, entries in conds.items()}
    for_all = any(
        options.get("control_apply_to_uncond") for options in control["positive"]
    )  # ComfyUI applies it to all three
    if for_all or not control["positive"] or control["image_only"]:
        return conds
    if not control["negative"]:
        notice(
            "A ControlNet is connected only to the positive conditioning, so text_guidance multiplies its effect. "
            "Connect it to the negative conditioning, too."
        )
        return conds
    if len({id(entry[1].get("control")) for entry in conds["positive"]}) > 1:
        notice(
            "The parts of the positive conditioning have different ControlNets, so image_only gets none and "
            "text_guidance multiplies their effect. Apply one ControlNet to all parts, or connect one to image_only."
        )
        return conds
    shared = {key: control["positive"][0][key] for key in ("control", "control_apply_to_uncond")}
    return {**conds, "image_only": [[text, {**options, **shared}] for text, options in conds["image_only"]]}


def trained_guidance(info: LayersInfo, text_guidance: float, image_guidance: float) -> tuple[float, float]:
    """Return the guidance weights, with those at the nodes' defaults replaced by those of the temporal layers' file."""
    given = text_guidance, image_guidance
    text, image = (
        trained if value == default else value
        for value, default, trained in zip(given, PAPER_GUIDANCE, info.guidance, strict=True)
    )
    return text, image


def make_guider(
    model: comfy.model_patcher.ModelPatcher,
    positive: list,
    image_only: list,
    negative: list,
    *,
    text_guidance: float,
    image_guidance: float,
    guidance_rescale: float,
    as_trained: bool = False,
) -> EmuVideoGuider:
    """Return a guider.

    Args:
        as_trained: replace weights at the nodes' defaults by those of the file, see `trained_guidance`.

    Raises:
        ValueError: for a MODEL without temporal layers, conditionings that do not fit them, or a weight that is not
            finite.
    """
    info = check_layers(model)
    if as_trained:
        given = text_guidance, image_guidance
        text_guidance, image_guidance = trained_guidance(info, *given)
        if (text_guidance, image_guidance) != given:
            logging.info(f"Emu Video: guidance as trained, text {text_guidance:g} and image {image_guidance:g}")
    check_parts({"positive": positive, "image_only": image_only, "negative": negative}, info)
    hook: Any = model.model_options.get(CFG)
    if node_of(hook) == "PerpNeg":
        raise ValueError(
            "PerpNeg does not work with this guider, because it uses another conditioning and ignores image_guidance: "
            "remove it, or sample with KSampler."
        )
    guider = EmuVideoGuider(model)
    guider.set_conds(positive, image_only, negative)
    guider.set_guidance(image_guidance, text_guidance, guidance_rescale)
    return guider
