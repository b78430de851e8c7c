"""Nodes that change prompts and numbers over the frames of a video."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.prompt_schedule import prompt_schedule, scheduled_values
from .base import Node

Floats = io.Custom("FLOATS")  # a list of numbers, one per frame; ComfyUI's own hook nodes take the same type

EXAMPLE_PROMPTS = "0: a forest in spring\n8: a forest in autumn\n15: a forest in winter"


def frames_input() -> io.Input:
    return io.Int.Input(
        "frames", default=16, min=1, max=4096, tooltip="Frames of the video, as in the latent that you sample."
    )


def loop_input() -> io.Input:
    return io.Boolean.Input(
        "loop",
        default=False,
        advanced=True,
        tooltip="Blend from the last entry back to the first, for a video that loops.",
    )


class PromptSchedule(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoPromptSchedule",
            display_name="Prompt Schedule",
            category="Emu Video/conditioning",
            description="Changes the prompt over the video: each line sets it at one frame, and frames between blend.",
            search_aliases=[
                "prompt travel", "prompt scheduling", "batch prompt schedule", "fizznodes", "keyframes", "morph",
                "animatediff prompt", "frame prompts",
            ],
            inputs=[
                io.Clip.Input("clip", tooltip="The checkpoint's text encoder."),
                io.String.Input(
                    "prompts", multiline=True, default=EXAMPLE_PROMPTS,
                    tooltip='One prompt per line, after the number of its frame: "8: a dog". '
                    'Schedules of older packs ("8": "a dog",) also work.',
                ),
                frames_input(),
                io.String.Input(
                    "prefix", default="", optional=True, tooltip="Text added before every prompt, for example a style."
                ),
                io.String.Input("suffix", default="", optional=True, tooltip="Text added after every prompt."),
                loop_input(),
            ],
            outputs=[
                io.Conditioning.Output(
                    "conditioning", tooltip="One text per frame. Connect it to positive or negative of any node."
                )
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, clip, prompts: str, frames: int, prefix: str = "", suffix: str = "", loop: bool = False
    ) -> io.NodeOutput:
        return io.NodeOutput(prompt_schedule(clip, prompts, frames=frames, prefix=prefix, suffix=suffix, is_loop=loop))


class ValueSchedule(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoValueSchedule",
            display_name="Value Schedule",
            category="Emu Video/video",
            description="Makes one number per frame: each line sets it at one frame, and frames between blend.",
            search_aliases=["float schedule", "batch value schedule", "fizznodes", "keyframes", "multival"],
            inputs=[
                io.String.Input(
                    "values", multiline=True, default="0: 1.0\n15: 0.5",
                    tooltip='One number per line, after the number of its frame: "8: 0.5".',
                ),
                frames_input(),
                loop_input(),
            ],
            outputs=[
                Floats.Output(
                    "values", tooltip="One number per frame, for Temporal Layer Strength or Image and Affinity "
                    "Conditioning."
                )
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, values: str, frames: int, loop: bool = False) -> io.NodeOutput:
        return io.NodeOutput(scheduled_values(values, frames, loop))


NODES: list[type[Node]] = [PromptSchedule, ValueSchedule]
