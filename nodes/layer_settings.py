"""Nodes that set temporal layers: motion LoRAs, strength, frame rate, and the image of PIA."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.affinity_conditioning import PRESETS, affinity_conditioning
from ..host.folders import MOTION_LORAS, fingerprint, model_files, read_motion_lora
from ..host.layer_settings import with_motion_lora, with_strength, with_values
from .base import Node
from .conditioning import CATEGORY as CONDITIONING
from .conditioning import frames_input, model_inputs, text_inputs
from .schedules import Floats

CATEGORY = "Emu Video/temporal layers"


class LoadMotionLoRA(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoLoadMotionLoRA",
            display_name="Load Motion LoRA",
            category="Emu Video/loaders",
            description="Adds a motion LoRA of AnimateDiff (zoom, pan, roll, ...) to the temporal layers of a model.",
            search_aliases=["camera lora", "zoom", "pan", "animatediff lora", "motiondirector", "camera motion"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model output of Load Temporal Layers or of another Load Motion LoRA."
                ),
                io.Combo.Input(
                    "motion_lora",
                    options=model_files(MOTION_LORAS),
                    tooltip="A file of models/loras or models/animatediff_motion_lora.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip="Strength of the motion: 0 is off, 1 is as trained.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model with the motion LoRA.")],
        )

    @classmethod
    def fingerprint_inputs(cls, motion_lora: str | None = None, **_: object) -> tuple[int, int]:
        return fingerprint(MOTION_LORAS, motion_lora)

    @classmethod
    def execute(cls, model, motion_lora: str, strength: float) -> io.NodeOutput:
        lora = read_motion_lora(motion_lora)
        return io.NodeOutput(with_motion_lora(model, lora, strength))


class TemporalLayerStrength(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoTemporalStrength",
            display_name="Temporal Layer Strength",
            category=CATEGORY,
            description="Scales the effect of the temporal layers: 0 gives independent frames, 1 is as trained.",
            search_aliases=["motion scale", "attention strength", "multival", "motion amount", "effect", "keyframes"],
            inputs=[
                io.Model.Input("model", tooltip="The model output of Load Temporal Layers."),
                io.Float.Input(
                    "attention", default=1.0, min=0.0, max=2.0, step=0.05,
                    tooltip="Strength of temporal attention and motion modules. Lower values reduce motion.",
                ),
                io.Float.Input(
                    "convolution", default=1.0, min=0.0, max=2.0, step=0.05,
                    tooltip="Strength of temporal convolutions. Only Emu Video's own layers and ModelScope have them.",
                ),
                io.Float.Input(
                    "start_percent", default=0.0, min=0.0, max=1.0, step=0.001, optional=True, advanced=True,
                    tooltip="Start of the sampling range in which this strength applies: 0 is the first step. Before "
                    "it, an earlier strength node applies.",
                ),
                io.Float.Input(
                    "end_percent", default=1.0, min=0.0, max=1.0, step=0.001, optional=True, advanced=True,
                    tooltip="End of the sampling range in which this strength applies: 1 is the last step.",
                ),
                io.Float.Input(
                    "key_scale", default=1.0, min=0.0, max=4.0, step=0.01, optional=True, advanced=True,
                    tooltip="Multiplies the keys of temporal attention, like scale in AnimateDiff-Evolved. Try 1.1 "
                    "for more motion.",
                ),
                Floats.Input(
                    "per_frame", optional=True,
                    tooltip="A factor for each frame, for example from Value Schedule.",
                ),
                io.Mask.Input(
                    "mask", optional=True, tooltip="Area in which the layers act: one mask, or one for each frame."
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model with this strength.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, attention: float, convolution: float, start_percent: float = 0.0, end_percent: float = 1.0,
        key_scale: float = 1.0, per_frame=(), mask=None,
    ) -> io.NodeOutput:  # fmt: skip
        limits = {
            "start": start_percent, "end": end_percent, "key_scale": key_scale,
            "per_frame": tuple(per_frame or ()), "mask": mask,
        }  # fmt: skip
        return io.NodeOutput(with_strength(model, attention, convolution, **limits))


class FrameRateAndMotion(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoFrameRateAndMotion",
            display_name="Frame Rate and Motion",
            category=CATEGORY,
            description="Sets the frame rate and the amount of motion that FancyVideo's layers make.",
            search_aliases=["fancyvideo", "fps", "motion score", "motion bucket", "motion strength"],
            inputs=[
                io.Model.Input("model", tooltip="The model output of Load Temporal Layers, with a FancyVideo file."),
                io.Float.Input("fps", default=25.0, min=1.0, max=120.0, tooltip="Frames per second of the video."),
                io.Float.Input(
                    "motion",
                    default=3.0,
                    min=0.0,
                    max=20.0,
                    step=0.1,
                    tooltip="Amount of motion: 0.5 is little, 3 is much.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model with this frame rate and motion.")],
        )

    @classmethod
    def execute(cls, model, fps: float, motion: float) -> io.NodeOutput:
        return io.NodeOutput(with_values(model, {"fps": fps, "motion": motion}))


class ImageAndAffinityConditioning(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoAffinity",
            display_name="Image and Affinity Conditioning",
            category=CONDITIONING,
            description="Image to video with PIA's layers: makes the conditionings that animate your image.",
            search_aliases=["pia", "animate image", "image to video", "img2vid", "i2v", "style transfer", "loop"],
            inputs=[
                *model_inputs("The model output of Load Temporal Layers, with a PIA file."),
                io.Image.Input("image", tooltip="One image. It becomes the first frame, and the others resemble it."),
                *text_inputs(),
                frames_input("Frames of the video. PIA was trained with 16.", default=16),
                io.Combo.Input(
                    "motion", options=list(PRESETS), default="medium motion",
                    tooltip="How far frames may depart from the image. Loops return to it.",
                ),
                io.MultiType.Input(
                    "affinities", types=[Floats, io.Float, io.Mask], optional=True, advanced=True,
                    tooltip="Similarity to the image, from 0 (free) to 1 (the same), used instead of motion. One "
                    "number, a Value Schedule, or a mask.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("positive", tooltip="Prompt, image and affinities, for KSampler."),
                io.Conditioning.Output("negative", tooltip="Negative prompt, image and affinities, for KSampler."),
                io.Latent.Output("latent", tooltip="An empty latent of the right size, for the sampler."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, vae, image, positive, negative, frames: int, motion: str, affinities=None) -> io.NodeOutput:
        return io.NodeOutput(
            *affinity_conditioning(model, vae, image, positive, negative, frames=frames, motion=motion, own=affinities)
        )


NODES: list[type[Node]] = [
    LoadMotionLoRA,
    TemporalLayerStrength,
    FrameRateAndMotion,
    ImageAndAffinityConditioning,
]
