"""Node that adds temporal layers to a checkpoint."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.folders import FAMILIES, TEMPORAL_LAYERS, fingerprint, layer_files, read_layers
from ..host.injection import inject
from .base import Node

BY_THE_FILE = "as the file says"
AS_TRAINED = "as trained"
# Group norms of the temporal transformers and of the checkpoint's residual blocks.
GROUP_NORMS = {AS_TRAINED: ("", ""), "each frame": ("frame", "frame"), "as diffusers": ("clip", "frame")}


class LoadTemporalLayers(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoLoadTemporalLayers",
            display_name="Load Temporal Layers",
            category="Emu Video/loaders",
            description=(
                "Turns an image checkpoint into a video model: a batch of latents becomes the frames of one video. Use "
                "the checkpoint's own model for the first frame."
            ),
            search_aliases=[
                "animatediff",
                "apply animatediff",
                "motion module",
                "motion model",
                "fancyvideo",
                "hotshot",
                "modelscope",
                "animatelcm",
                "pia",
                "motion adapter",
                "text to video",
                "t2v",
                "image to video",
                "img2vid",
                "animate",
            ],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The checkpoint, or a finetune of the checkpoint that the layers were trained on."
                ),
                io.Combo.Input(
                    "temporal_layers",
                    options=layer_files(),
                    tooltip="A file of models/temporal_layers: Emu Video's own, AnimateDiff, AnimateLCM, FancyVideo, "
                    "PIA, HotshotXL, ModelScope or a MotionAdapter of diffusers.",
                ),
                io.Int.Input(
                    "frames",
                    default=0,
                    min=0,
                    max=4096,
                    optional=True,
                    advanced=True,
                    tooltip="Frames of one video, to sample several in a batch. 0 takes the whole batch as one video.",
                ),
                io.Combo.Input(
                    "family",
                    options=[BY_THE_FILE, *FAMILIES],
                    default=BY_THE_FILE,
                    optional=True,
                    advanced=True,
                    tooltip="Layer family. Set it only when the file cannot be identified automatically.",
                ),
                io.Combo.Input(
                    "group_norm",
                    options=list(GROUP_NORMS),
                    default=AS_TRAINED,
                    optional=True,
                    advanced=True,
                    tooltip="Whether group norms of public layers average over each frame or over the whole video. "
                    "Change it only to match another program.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    tooltip="The video model, for KSampler or Emu Video Sampler. Its noise schedule is set."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, temporal_layers: str | None = None, **_: object) -> tuple[int, int]:
        return fingerprint(TEMPORAL_LAYERS, temporal_layers)

    @classmethod
    def execute(
        cls, model, temporal_layers: str, frames: int = 0, family: str = BY_THE_FILE, group_norm: str = AS_TRAINED
    ) -> io.NodeOutput:
        family = "" if family == BY_THE_FILE else family
        state_dict, info = read_layers(temporal_layers, family, *GROUP_NORMS[group_norm])
        return io.NodeOutput(inject(model, state_dict, info, temporal_layers, frames))


NODES: list[type[Node]] = [LoadTemporalLayers]
