"""Nodes that make conditionings from known frames, and a node that joins a video sampled in windows."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.conditioning import NoiseAugmentation, check_role, first_frame_conditioning, layout_conditioning
from ..host.given_frames import GivenFrames, two_images
from ..host.layouts import extended, interpolation_layout, join_videos, known_at, read_positions
from .base import Node

CATEGORY = "Emu Video/conditioning"
PAPER = "as in the paper"

VideoLayout = io.Custom("EMU_VIDEO_LAYOUT")


def text_inputs() -> list[io.Input]:
    return [
        io.Conditioning.Input("positive", tooltip="The prompt: say what happens in the video."),
        io.Conditioning.Input("negative", tooltip="An empty prompt, or what you do not want to see."),
    ]


def model_inputs(tooltip: str = "The model output of Load Temporal Layers.") -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip=tooltip),
        io.Vae.Input("vae", tooltip="The checkpoint's VAE."),
    ]


def frames_input(
    tooltip: str = "Frames to make. Use the number that the temporal layers were trained with.",
    least: int = 2,
    default: int = 8,
) -> io.Input:
    return io.Int.Input("frames", default=default, min=least, max=1024, tooltip=tooltip)


def conditioning_outputs(listed: bool = False) -> list[io.Output]:
    """Return the outputs. listed: each is a list with one item per window, and ComfyUI runs the next nodes per item."""
    return [
        io.Conditioning.Output("positive", tooltip="Prompt and known frames.", is_output_list=listed),
        io.Conditioning.Output("image_only", tooltip="Negative prompt and known frames.", is_output_list=listed),
        io.Conditioning.Output("negative", tooltip="Negative prompt, no known frames.", is_output_list=listed),
        io.Latent.Output(
            "latent", tooltip="An empty latent of the right size, for the sampler.", is_output_list=listed
        ),
    ]


def layout_output() -> io.Output:
    return VideoLayout.Output("layout", tooltip="Positions of the given and the new frames. Connect it to Join Video.")


class FirstFrameConditioning(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoFirstFrame",
            display_name="First Frame Conditioning",
            category=CATEGORY,
            description="Image to video: makes the conditionings of a video that starts with your image.",
            search_aliases=["image to video", "img2vid", "i2v", "ti2v", "animate image", "fancyvideo", "emu video"],
            inputs=[
                *model_inputs(),
                io.Image.Input(
                    "image", tooltip="One image. It becomes the first frame and sets the size of the video."
                ),
                *text_inputs(),
                frames_input(),
            ],
            outputs=conditioning_outputs(),
        )

    @classmethod
    def execute(cls, model, vae, image, positive, negative, frames) -> io.NodeOutput:
        return io.NodeOutput(*first_frame_conditioning(model, vae, image, positive, negative, frames=frames))


class FirstAndLastFrameConditioning(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoFirstLast",
            display_name="First and Last Frame Conditioning",
            category=CATEGORY,
            description="Makes the conditionings of a video that leads from one image to another, or back to it.",
            search_aliases=["start end frame", "first last frame", "flf2v", "keyframes", "morph", "transition", "loop"],
            inputs=[
                *model_inputs(),
                io.Image.Input("first", tooltip="One image: the first frame."),
                io.Image.Input(
                    "last", tooltip="One image of the same size: the last frame. For a loop use the first image again."
                ),
                *text_inputs(),
                frames_input("Frames of the video, including the two given ones.", least=3),
            ],
            outputs=[*conditioning_outputs(), layout_output()],
        )

    @classmethod
    def execute(cls, model, vae, first, last, positive, negative, frames) -> io.NodeOutput:
        layout, given = known_at((0, -1), frames), GivenFrames(two_images(first, last))
        (results,) = layout_conditioning(model, vae, given, positive, negative, layout=layout)
        return io.NodeOutput(*results, layout)


class KnownFramesConditioning(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoKnownFrames",
            display_name="Known Frames Conditioning",
            category=CATEGORY,
            description="Makes the conditionings of a video with your images at any frames. The other frames are "
            "sampled.",
            search_aliases=["keyframes", "key frames", "inpainting in time", "middle frame", "storyboard", "morph"],
            inputs=[
                *model_inputs(),
                io.Image.Input("images", tooltip="The images to use as frames, as one batch (Batch Images)."),
                *text_inputs(),
                frames_input("Frames of the video, including the given ones."),
                io.String.Input(
                    "positions", default="0, -1",
                    tooltip="The frame number of each image, separated by commas. 0 is the first frame, -1 the last.",
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


class ExtendVideoConditioning(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoExtend",
            display_name="Extend Video Conditioning",
            category=CATEGORY,
            description="Makes the conditionings of a clip that continues a video. Append it with Join Video.",
            search_aliases=["continue video", "longer video", "extend", "video to video", "autoregressive"],
            inputs=[
                *model_inputs(),
                io.Image.Input("video", tooltip="All frames of the video so far."),
                *text_inputs(),
                frames_input("Frames of the next clip, including the known ones."),
                io.Int.Input(
                    "known", default=2, min=1, max=1023,
                    tooltip="Number of frames at the end of the video with which the next clip starts. 1 keeps "
                    "positions, 2 also keeps motion.",
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


class InterpolationConditioning(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoInterpolation",
            display_name="Interpolation Conditioning",
            category=CATEGORY,
            description=(
                "Adds new frames between and around the given ones for smoother motion: 8 become 37. Long videos are "
                "sampled in windows, which Join Video joins."
            ),
            search_aliases=["frame interpolation", "more fps", "smooth", "slow motion", "tsr"],
            inputs=[
                *model_inputs("The model output of Load Temporal Layers, with layers of the role interpolation."),
                io.MultiType.Input(
                    "frames", types=[io.Image, io.Latent], tooltip="The video to make smoother: images or latents."
                ),
                *text_inputs(),
                io.Int.Input(
                    "factor", default=4, min=2, max=64,
                    tooltip="Factor on the frame rate, as the layers were trained. 4 adds three new frames between two "
                    "given ones.",
                ),
                io.Int.Input(
                    "margin", default=4, min=0, max=64, advanced=True,
                    tooltip="New frames before the first given frame and after the last one; 0 makes none.",
                ),
                io.Int.Input(
                    "noise_level", default=100, min=0, max=250, advanced=True,
                    tooltip="Noise on the given frames hides small faults. Use 100 for layers trained with it, else 0.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                    tooltip="Seed of the noise on the given frames, not of the video.",
                ),
                io.Combo.Input(
                    "seam", options=["continuous", PAPER], default="continuous", advanced=True,
                    tooltip="How windows are joined. As in the paper, a given frame is lost and time skips at each "
                    "seam.",
                ),
            ],
            outputs=[*conditioning_outputs(listed=True), layout_output()],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, vae, frames, positive, negative, factor, margin, noise_level, seed, seam="continuous"
    ) -> io.NodeOutput:
        given = GivenFrames.read(frames)
        info = check_role(model, "interpolation")
        layout = interpolation_layout(given, factor, margin, seam == PAPER, info.frames)
        noise = NoiseAugmentation(noise_level, seed)
        results = layout_conditioning(model, vae, given, positive, negative, layout=layout, role=info.role, noise=noise)
        return io.NodeOutput(*map(list, zip(*results, strict=True)), layout)


class JoinVideo(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoJoin",
            display_name="Join Video",
            category="Emu Video/video",
            description=(
                "Joins sampled windows to one video without repeating or losing a frame, and restores the given frames."
            ),
            search_aliases=["append video", "concatenate frames", "merge video", "paste frames"],
            inputs=[
                io.Image.Input("images", tooltip="The decoded frames of VAE Decode."),
                VideoLayout.Input(
                    "layout", tooltip="The layout output of the conditioning node that these frames come from."
                ),
                io.Image.Input(
                    "frames",
                    optional=True,
                    tooltip="The frames that the conditioning node received; they replace the sampled ones. Required "
                    "after Extend Video Conditioning.",
                ),
            ],
            outputs=[io.Image.Output("images", tooltip="The whole video.", is_output_list=True)],
            is_input_list=True,
        )

    @classmethod
    def execute(cls, images, layout, frames=()) -> io.NodeOutput:
        return io.NodeOutput(join_videos(layout, images, frames))


NODES: list[type[Node]] = [
    FirstFrameConditioning,
    FirstAndLastFrameConditioning,
    KnownFramesConditioning,
    ExtendVideoConditioning,
    InterpolationConditioning,
    JoinVideo,
]
