"""Nodes that tell the model what is known of a video, and put a video that was made in parts together."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.conditioning import NoiseAugmentation, first_frame_conditioning, layout_conditioning
from ..host.given_frames import GivenFrames, two_images
from ..host.layouts import extended, interpolation_layout, join_videos, known_at, read_positions

CATEGORY = "Emu Video/conditioning"
PAPER = "as in the paper"

VideoLayout = io.Custom("EMU_VIDEO_LAYOUT")


def text_inputs() -> list[io.Input]:
    return [
        io.Conditioning.Input("positive", tooltip="The prompt: what happens in the video."),
        io.Conditioning.Input("negative", tooltip="The null text: an empty or a negative prompt."),
    ]


def model_inputs(tooltip: str = "The model of Load Temporal Layers.") -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip=tooltip),
        io.Vae.Input("vae", tooltip="The checkpoint's VAE."),
    ]


def frames_input(tooltip: str = "Frames of the video.", least: int = 2, default: int = 8) -> io.Input:
    return io.Int.Input("frames", default=default, min=least, max=1024, tooltip=tooltip)


def conditioning_outputs(listed: bool = False) -> list[io.Output]:
    """listed: one of each for every window; ComfyUI then runs the nodes behind them once for each."""
    return [
        io.Conditioning.Output("positive", tooltip="Prompt and image.", is_output_list=listed),
        io.Conditioning.Output("image_only", tooltip="Null text and image.", is_output_list=listed),
        io.Conditioning.Output("negative", tooltip="Null text, no image.", is_output_list=listed),
        io.Latent.Output("latent", tooltip="Empty frames to sample.", is_output_list=listed),
    ]


def layout_output() -> io.Output:
    return VideoLayout.Output("layout", tooltip="Where the given and the new frames lie, for Join Video.")


class FirstFrameConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoFirstFrame",
            display_name="First Frame Conditioning",
            category=CATEGORY,
            description="Makes the three conditionings of a video that starts with the given image.",
            search_aliases=["image to video", "animate image", "i2v"],
            inputs=[
                *model_inputs(),
                io.Image.Input("image", tooltip="One image: the first frame."),
                *text_inputs(),
                frames_input(),
            ],
            outputs=conditioning_outputs(),
        )

    @classmethod
    def execute(cls, model, vae, image, positive, negative, frames) -> io.NodeOutput:
        return io.NodeOutput(*first_frame_conditioning(model, vae, image, positive, negative, frames=frames))


class FirstAndLastFrameConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoFirstLast",
            display_name="First and Last Frame Conditioning",
            category=CATEGORY,
            description="Makes the three conditionings of a video that leads from one given image to another.",
            search_aliases=["start end frame", "flf2v", "keyframes", "loop"],
            inputs=[
                *model_inputs(),
                io.Image.Input("first", tooltip="One image: the first frame."),
                io.Image.Input("last", tooltip="One image of the same size: the last frame."),
                *text_inputs(),
                frames_input("Frames of the video, the given two among them.", least=3),
            ],
            outputs=[*conditioning_outputs(), layout_output()],
        )

    @classmethod
    def execute(cls, model, vae, first, last, positive, negative, frames) -> io.NodeOutput:
        layout, given = known_at((0, -1), frames), GivenFrames(two_images(first, last))
        (results,) = layout_conditioning(model, vae, given, positive, negative, layout=layout)
        return io.NodeOutput(*results, layout)


class KnownFramesConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoKnownFrames",
            display_name="Known Frames Conditioning",
            category=CATEGORY,
            description="Makes the three conditionings of a video of which any frames are given, and the others made.",
            search_aliases=["keyframes", "key frames", "inpainting in time", "middle frame"],
            inputs=[
                *model_inputs(),
                io.Image.Input("images", tooltip="The given frames."),
                *text_inputs(),
                frames_input("Frames of the video, the given ones among them."),
                io.String.Input(
                    "positions", default="0, -1",
                    tooltip="Where each of the images lies in the video, with commas between: 0 is the first frame, "
                    "-1 the last.",
                ),
            ],
            outputs=[*conditioning_outputs(), layout_output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, vae, images, positive, negative, frames, positions) -> io.NodeOutput:
        layout = known_at(read_positions(positions, len(images)), frames)
        given = GivenFrames.read(images)
        (results,) = layout_conditioning(model, vae, given, positive, negative, layout=layout)
        return io.NodeOutput(*results, layout)


class ExtendVideoConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoExtend",
            display_name="Extend Video Conditioning",
            category=CATEGORY,
            description="Makes the three conditionings of a clip that goes on where a video ends.",
            search_aliases=["continue video", "longer video", "extend"],
            inputs=[
                *model_inputs(),
                io.Image.Input("video", tooltip="The frames so far."),
                *text_inputs(),
                frames_input("Frames of the next clip, the known ones among them."),
                io.Int.Input(
                    "known", default=2, min=1, max=1023,
                    tooltip="How many last frames of the video the next clip starts with. One fixes the place of "
                    "things, two their motion too.",
                ),
            ],
            outputs=[*conditioning_outputs(), layout_output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, vae, video, positive, negative, frames, known) -> io.NodeOutput:
        layout = extended(len(video), known, frames)
        given = GivenFrames.read(video)
        (results,) = layout_conditioning(model, vae, given, positive, negative, layout=layout)
        return io.NodeOutput(*results, layout)


class InterpolationConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoInterpolation",
            display_name="Interpolation Conditioning",
            category=CATEGORY,
            description=(
                "Makes the conditionings of a video with new frames between and around the given ones: 8 become 37. "
                "Long videos are cut into windows of 8 given frames, sampled one by one."
            ),
            search_aliases=["frame interpolation", "more fps", "smooth", "slow motion"],
            inputs=[
                *model_inputs("Load Temporal Layers with layers of the role interpolation."),
                io.MultiType.Input(
                    "frames", types=[io.Image, io.Latent], tooltip="The frames to keep, two or more: images or latents."
                ),
                *text_inputs(),
                io.Int.Input(
                    "factor", default=4, min=2, max=64,
                    tooltip="How many times as many frames a second: 4 puts three new frames between two given ones.",
                ),
                io.Int.Input(
                    "margin", default=4, min=0, max=64,
                    tooltip="New frames before the first given frame and after the last one.",
                ),
                io.Int.Input(
                    "noise_level", default=100, min=0, max=250,
                    tooltip="Noise on the given frames, as a timestep: 100 for layers trained with it, 0 for none.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                    tooltip="Seed of the noise on the given frames.",
                ),
                io.Combo.Input(
                    "seam", options=["continuous", PAPER], default="continuous", advanced=True,
                    tooltip="How windows meet. The paper's way loses a given frame and some time at each seam.",
                ),
            ],
            outputs=[*conditioning_outputs(listed=True), layout_output()],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, vae, frames, positive, negative, factor, margin, noise_level, seed, seam="continuous"
    ) -> io.NodeOutput:
        given = GivenFrames.read(frames)
        layout, noise = interpolation_layout(given, factor, margin, seam == PAPER), NoiseAugmentation(noise_level, seed)
        results = layout_conditioning(
            model, vae, given, positive, negative, layout=layout, role="interpolation", noise=noise
        )
        return io.NodeOutput(*map(list, zip(*results, strict=True)), layout)


class JoinVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoJoin",
            display_name="Join Video",
            category="Emu Video/video",
            description=(
                "Puts sampled windows together to one video without repeating or losing a frame, and puts the given "
                "frames back in their places."
            ),
            search_aliases=["append video", "concatenate frames", "paste frames"],
            inputs=[
                io.Image.Input("images", tooltip="The decoded frames of all windows, in order."),
                VideoLayout.Input("layout", tooltip="Of Interpolation Conditioning or Extend Video Conditioning."),
                io.Image.Input(
                    "frames",
                    optional=True,
                    tooltip="The frames that were given: they replace the sampled ones. Needed after an extension.",
                ),
            ],
            outputs=[io.Image.Output("images", tooltip="The whole video.", is_output_list=True)],
            is_input_list=True,
        )

    @classmethod
    def execute(cls, images, layout, frames=()) -> io.NodeOutput:
        return io.NodeOutput(join_videos(layout, images, frames))


NODES: list[type[io.ComfyNode]] = [
    FirstFrameConditioning,
    FirstAndLastFrameConditioning,
    KnownFramesConditioning,
    ExtendVideoConditioning,
    InterpolationConditioning,
    JoinVideo,
]
