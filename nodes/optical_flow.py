"""Node that makes new frames between given ones by optical flow."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.optical_flow import interpolate
from .base import Node


class InterpolateFramesOpticalFlow(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoInterpolateFlow",
            display_name="Interpolate Frames (Optical Flow)",
            category="Emu Video/interpolation",
            description="Makes motion smoother: adds frames between the given ones by optical flow. Needs no model.",
            search_aliases=["frame interpolation", "smooth", "slow motion", "fps", "rife", "film", "vfi", "tween"],
            inputs=[
                io.Image.Input("images", tooltip="The frames of a video, two or more."),
                io.Int.Input(
                    "factor",
                    default=2,
                    min=2,
                    max=1024,
                    tooltip="Factor on the frame rate. 2 adds one new frame between two given ones, 4 adds three.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "images", tooltip="The video with (frames - 1) x factor + 1 frames. The given frames are unchanged."
                )
            ],
        )

    @classmethod
    def execute(cls, images, factor) -> io.NodeOutput:
        return io.NodeOutput(interpolate(images, factor))


NODES: list[type[Node]] = [InterpolateFramesOpticalFlow]
