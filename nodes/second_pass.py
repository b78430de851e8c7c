"""Nodes that make a video larger: with super-resolution layers, or in a second pass with the same layers."""

from __future__ import annotations

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..host.conditioning import NoiseAugmentation
from ..host.given_frames import GivenFrames
from ..host.known_frames_at_size import conditionings_at_size
from ..host.super_resolution import match_small_video, super_resolution_conditioning
from .base import Node
from .conditioning import CATEGORY, conditioning_outputs, layout_output, model_inputs, text_inputs

EACH_FRAME, SAME = "each frame", "same for all frames"


class SuperResolutionConditioning(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoSuperResolution",
            display_name="Super-Resolution Conditioning",
            category=CATEGORY,
            description=(
                "Makes the conditionings of a sharper, larger version of a video. Long videos are cut into windows, "
                "sampled one by one and joined by Join Video."
            ),
            search_aliases=["upscale video", "video super resolution", "ssr", "vsr", "hires"],
            inputs=[
                *model_inputs("The model output of Load Temporal Layers, with layers of the role super_resolution."),
                io.MultiType.Input(
                    "frames", types=[io.Image, io.Latent], tooltip="The small video: images or latents."
                ),
                *text_inputs(),
                io.Int.Input(
                    "factor", default=2, min=2, max=8,
                    tooltip="Factor on width and height. Use the factor that the layers were trained for, usually 2.",
                ),
                io.Int.Input(
                    "noise_level", default=100, min=0, max=999,
                    tooltip="Noise on the small video, as a timestep; 0 for layers that were trained without it. More "
                    "noise removes more of its faults, but also more of its detail.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                    tooltip="Seed of the noise on the small video.",
                ),
                io.Int.Input(
                    "window", default=0, min=0, max=1024, advanced=True,
                    tooltip="Frames that are sampled together. 0 uses the number that the layers were trained with.",
                ),
                io.Int.Input(
                    "tile", default=0, min=0, max=8192, step=64, advanced=True,
                    tooltip="Side of a tile in pixels of the larger video, for pictures that do not fit into memory. "
                    "0 is off.",
                ),
                io.Combo.Input(
                    "initial_noise", options=[EACH_FRAME, SAME], default=EACH_FRAME, advanced=True,
                    tooltip="Initial noise of the frames. The same noise for all flickers less, but fine detail may "
                    "not move with objects.",
                ),
            ],
            outputs=[*conditioning_outputs(listed=True), layout_output()],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, vae, frames, positive, negative, factor, noise_level, seed, window=0, tile=0,
        initial_noise=EACH_FRAME,
    ) -> io.NodeOutput:  # fmt: skip
        results, layout = super_resolution_conditioning(
            model,
            vae,
            GivenFrames.read(frames),
            positive,
            negative,
            factor=factor,
            noise=NoiseAugmentation(noise_level, seed),
            window=window,
            tile=tile,
            is_noise_shared=initial_noise == SAME,
        )
        return io.NodeOutput(*map(list, zip(*results, strict=True)), layout)


class ResizeKnownFrames(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoResizeKnownFrames",
            display_name="Resize Known Frames",
            category=CATEGORY,
            description=(
                "Resizes conditionings to an upscaled latent, for a second pass. Connect it between the conditioning "
                "node and the second sampler."
            ),
            search_aliases=["second pass", "hires fix", "latent upscale", "upscale video", "resize conditioning"],
            inputs=[
                *model_inputs(),
                io.Conditioning.Input("positive", tooltip="The positive output of the conditioning node."),
                io.Latent.Input("latent", tooltip="The upscaled latent of the sampled video."),
                io.Conditioning.Input(
                    "image_only", optional=True, tooltip="The image_only output, if the second sampler needs it."
                ),
                io.Conditioning.Input(
                    "negative", optional=True, tooltip="The negative output, if the second sampler needs it."
                ),
            ],
            outputs=[
                io.Conditioning.Output("positive", tooltip="The positive conditioning at the new size."),
                io.Conditioning.Output("image_only", tooltip="The image_only conditioning at the new size."),
                io.Conditioning.Output("negative", tooltip="The negative conditioning at the new size."),
                io.Latent.Output("latent", tooltip="The given latent, for the second sampler."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, vae, positive, latent, image_only=None, negative=None) -> io.NodeOutput:
        named = {"positive": positive, "image_only": image_only, "negative": negative}
        connected = {name: value for name, value in named.items() if value is not None}
        made = dict(
            zip(connected, conditionings_at_size(model, vae, latent["samples"], *connected.values()), strict=True)
        )
        outputs = [
            made.get(name) or ExecutionBlocker(f"The input {name} of Resize Known Frames is not connected: connect it.")
            for name in named
        ]
        return io.NodeOutput(*outputs, latent)


class MatchSmallVideo(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoMatchSmallVideo",
            display_name="Match Small Video",
            category="Emu Video/video",
            description=(
                "Gives an upscaled video the colours and shapes of the small video, and keeps its finer detail. "
                "Corrects what super-resolution and the VAE changed."
            ),
            search_aliases=["back-projection", "color match", "colour match", "data consistency", "upscale video"],
            inputs=[
                io.Image.Input("images", tooltip="The upscaled video."),
                io.Image.Input("small", tooltip="The video before it was upscaled."),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=1.0, step=0.05,
                    tooltip="1 keeps everything of the small video, also its faults. 0 changes nothing.",
                ),
            ],
            outputs=[io.Image.Output("images", tooltip="The upscaled video with the colours of the small one.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, images, small, strength) -> io.NodeOutput:
        return io.NodeOutput(match_small_video(images, small, strength))


NODES: list[type[Node]] = [SuperResolutionConditioning, ResizeKnownFrames, MatchSmallVideo]
