"""Node that prepares clips for training."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..host.prepare import prepare_clips, stamp
from .base import Node

CATEGORY = "Emu Video/training"


class PrepareClips(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoPrepareClips",
            display_name="Prepare Clips",
            category=CATEGORY,
            description="Makes a training dataset for temporal layers from a folder of videos and captions.",
            search_aliases=["dataset", "training data", "train motion", "cache latents"],
            is_output_node=True,
            inputs=[
                io.String.Input(
                    "folder",
                    tooltip="Folder of videos and captions: a path, or a folder in ComfyUI's input folder. Captions "
                    "are .txt files named like the videos, or lines of a .jsonl or .csv file.",
                ),
                io.Model.Input("model", tooltip="The image checkpoint to train on."),
                io.Clip.Input("clip", tooltip="The checkpoint's CLIP. It encodes the captions."),
                io.Vae.Input("vae", tooltip="The checkpoint's VAE. It encodes the frames."),
                io.Int.Input("frames", default=8, min=2, max=256, tooltip="Frames per clip, usually 8 or 16."),
                io.Float.Input(
                    "fps", default=8.0, min=0.5, max=60.0, step=0.5, tooltip="Frames per second, usually 4 or 8."
                ),
                io.Int.Input("width", default=512, min=32, max=2048, step=8, tooltip="Width of the clips in pixels."),
                io.Int.Input("height", default=512, min=32, max=2048, step=8, tooltip="Height of the clips in pixels."),
                io.String.Input("name", default="my_clips", tooltip="Name of the dataset in output/datasets."),
                io.Int.Input(
                    "per_video", default=0, min=0, max=10000, optional=True, advanced=True,
                    tooltip="Number of clips per video, evenly spread. 0 takes as many as fit.",
                ),
                io.Boolean.Input(
                    "buckets", default=False, optional=True, advanced=True,
                    tooltip="Keep each video's aspect ratio. Otherwise its centre is cropped to width and height.",
                ),
                io.Boolean.Input(
                    "names_as_captions", default=False, optional=True, advanced=True,
                    tooltip="Use the file name as caption if a video has none.",
                ),
                io.Float.Input(
                    "stillest", default=0.0, min=0.0, max=99.0, step=1.0, optional=True, advanced=True,
                    tooltip="Leave out this percentage of clips: those that almost stop moving at some point. Try 20 "
                    "for films.",
                ),
                io.Int.Input(
                    "downscale", default=1, min=1, max=8, optional=True, advanced=True,
                    tooltip="Factor of super-resolution layers, usually 2: clips are also encoded from a smaller "
                    "version. 1 is off.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="dataset", tooltip="The dataset, for Train Temporal Layers."),
                io.Image.Output(display_name="sheet", tooltip="Frames and captions of up to 24 clips."),
                io.String.Output(display_name="report", tooltip="Summary, and why files were left out."),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, folder: str | None, **_: object) -> str | float:
        return float("nan") if folder is None else stamp(folder)  # a linked folder is not known yet: look at it again

    @classmethod
    def execute(
        cls, folder: str, model, clip, vae, frames: int, fps: float, width: int, height: int, name: str,
        per_video: int = 0, buckets: bool = False, names_as_captions: bool = False, stillest: float = 0.0,
        downscale: int = 1,
    ) -> io.NodeOutput:  # fmt: skip
        sheet, report = prepare_clips(
            model, clip, vae, folder=folder, name=name, frames=frames, fps=fps, width=width, height=height,
            per_video=per_video, buckets=buckets, names_as_captions=names_as_captions, stillest=stillest,
            downscale=downscale,
        )  # fmt: skip
        return io.NodeOutput(name, sheet, report, ui=ui.PreviewImage(sheet, cls=cls))


NODES: list[type[Node]] = [PrepareClips]
