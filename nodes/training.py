"""Node that trains temporal layers."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.training_session import dataset_stamp, recipe_names, session_clips, session_recipe, train_in_session
from .base import Node


class TrainTemporalLayers(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoTrainTemporalLayers",
            display_name="Train Temporal Layers",
            category="Emu Video/training",
            description=(
                "Trains temporal layers on your clips and saves them in models/temporal_layers. The checkpoint is not "
                "changed, so the layers work with all its finetunes."
            ),
            search_aliases=["train motion", "motion module training", "finetune video", "animatediff training"],
            is_input_list=True,
            inputs=[
                io.Model.Input(
                    "model", tooltip="The checkpoint, or the model output of Load Temporal Layers to train its layers "
                    "further."
                ),
                io.Combo.Input(
                    "recipe", options=recipe_names(), tooltip="Preset for all training settings. The inputs below "
                    "override parts of it."
                ),
                io.String.Input(
                    "name", default="my_motion",
                    tooltip="Name of the new file. Run again with the same name and settings to continue a cancelled "
                    "run.",
                ),
                io.String.Input(
                    "dataset", default="",
                    tooltip="Name of a dataset of prepared clips, or its folder. Leave it empty if you connect "
                    "latents.",
                ),
                io.Int.Input(
                    "steps", default=0, min=0, max=1_000_000, tooltip="Training steps of each stage. 0 uses the "
                    "recipe's number."
                ),
                io.Float.Input(
                    "learning_rate", default=0.0, min=0.0, max=1.0, step=0.000001, round=False,
                    tooltip="Learning rate; 0 uses the recipe's. Halve it if the loss jumps.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=0xFFFFFFFF, control_after_generate=False,
                    tooltip="Seed of the training. It must stay the same to continue a run.",
                ),
                io.String.Input(
                    "prompts", default="", multiline=True,
                    tooltip="Prompts of sample videos made during training, one per line. Leave it empty to use "
                    "captions of the clips.",
                ),
                io.String.Input(
                    "settings", default="", multiline=True, optional=True, advanced=True,
                    tooltip="Further settings of the recipe, one per line, for example weight_decay = 0.01.",
                ),
                io.Float.Input(
                    "fps", default=8.0, min=0.1, max=240.0, optional=True, advanced=True,
                    tooltip="Frames per second of connected latents. Ignored for a dataset, which states its own.",
                ),
                io.Latent.Input(
                    "latents", optional=True,
                    tooltip="One latent per clip, from Make Training Dataset. Use it instead of a dataset.",
                ),
                io.Conditioning.Input("conditioning", optional=True, tooltip="Caption of each connected latent."),
                io.Clip.Input("clip", optional=True, tooltip="Text encoder for the prompts."),
                io.Vae.Input("vae", optional=True, tooltip="VAE for the sample videos. Without it they are small "
                "previews."),
            ],
            outputs=[
                io.Model.Output("model", tooltip="The checkpoint with the trained layers."),
                io.String.Output("file", tooltip="Name of the trained file in models/temporal_layers."),
                io.Image.Output("loss", tooltip="Curves of the loss."),
                io.Image.Output("samples", tooltip="The last sample videos, one per row."),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, dataset: list[str | None] | None = None, **_: object) -> tuple[int, int] | None:
        return dataset_stamp(dataset[0]) if dataset and dataset[0] is not None else None

    @classmethod
    def execute(cls, **inputs: list) -> io.NodeOutput:
        one = {name: value[0] for name, value in inputs.items() if value}
        recipe = session_recipe(
            one["recipe"], steps=one["steps"], learning_rate=one["learning_rate"], seed=one["seed"],
            prompts=one["prompts"], settings=one.get("settings", ""),
        )  # fmt: skip
        clips = session_clips(
            one["model"], one["dataset"], inputs.get("latents") or [], inputs.get("conditioning") or [],
            clip=one.get("clip"), fps=one.get("fps", 8.0),
        )  # fmt: skip
        outcome = train_in_session(one["model"], recipe, clips, one["name"], clip=one.get("clip"), vae=one.get("vae"))
        return io.NodeOutput(outcome.model, outcome.file, outcome.curves, outcome.samples)


NODES: list[type[Node]] = [TrainTemporalLayers]
