"""Hanging temporal layers on a checkpoint."""

from __future__ import annotations

import folder_paths
from comfy_api.latest import io

from ..host.folders import TEMPORAL_LAYERS, fingerprint
from ..host.injection import inject
from ..temporal_layers.formats import CHOICES, Options, load

BY_THE_FILE = "as the file says"
AS_TRAINED = "as trained"
# Of the temporal transformers, and of the checkpoint's residual blocks.
GROUP_NORMS = {AS_TRAINED: ("", ""), "each frame": ("frame", "frame"), "as diffusers": ("clip", "frame")}


class LoadTemporalLayers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoLoadTemporalLayers",
            display_name="Load Temporal Layers",
            category="Emu Video/loaders",
            description=(
                "Hangs temporal layers on an image checkpoint, so that a batch of latents becomes the frames of one "
                "video. The MODEL that goes in stays an image model: use it for the first frame."
            ),
            search_aliases=["motion module", "animate", "text to video", "image to video"],
            inputs=[
                io.Model.Input("model", tooltip="The checkpoint that the temporal layers were trained on."),
                io.Combo.Input(
                    "temporal_layers",
                    options=folder_paths.get_filename_list(TEMPORAL_LAYERS),
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
                    tooltip="Frames of one video, where a batch holds several; 0: the whole batch is one video.",
                ),
                io.Combo.Input(
                    "family",
                    options=[BY_THE_FILE, *CHOICES],
                    default=BY_THE_FILE,
                    optional=True,
                    advanced=True,
                    tooltip="Whose layers these are, where the file does not tell.",
                ),
                io.Combo.Input(
                    "group_norm",
                    options=list(GROUP_NORMS),
                    default=AS_TRAINED,
                    optional=True,
                    advanced=True,
                    tooltip="Whether group norms of public layers see one frame or the clip. As trained is right, "
                    "unless you want another program's result.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The video model, with the noise schedule of the temporal layers.")],
        )

    @classmethod
    def fingerprint_inputs(cls, temporal_layers: str, **_: object) -> tuple[int, int]:
        return fingerprint(TEMPORAL_LAYERS, temporal_layers)

    @classmethod
    def execute(
        cls, model, temporal_layers: str, frames: int = 0, family: str = BY_THE_FILE, group_norm: str = AS_TRAINED
    ) -> io.NodeOutput:
        options = Options("" if family == BY_THE_FILE else family, *GROUP_NORMS[group_norm])
        state_dict, info = load(folder_paths.get_full_path_or_raise(TEMPORAL_LAYERS, temporal_layers), options)
        return io.NodeOutput(inject(model, state_dict, info, temporal_layers, frames))


NODES: list[type[io.ComfyNode]] = [LoadTemporalLayers]
