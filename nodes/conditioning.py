"""Nodes that tell the model what is known of a video."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.conditioning import first_frame_conditioning

CATEGORY = "Emu Video/conditioning"


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
                io.Model.Input("model", tooltip="The model of Load Temporal Layers."),
                io.Vae.Input("vae", tooltip="The checkpoint's VAE."),
                io.Image.Input("image", tooltip="One image: the first frame."),
                io.Conditioning.Input("positive", tooltip="The prompt: what happens in the video."),
                io.Conditioning.Input("negative", tooltip="The null text: an empty or a negative prompt."),
                io.Int.Input("frames", default=8, min=2, max=1024, tooltip="Frames of the video."),
            ],
            outputs=[
                io.Conditioning.Output("positive", tooltip="Prompt and image."),
                io.Conditioning.Output("image_only", tooltip="Null text and image."),
                io.Conditioning.Output("negative", tooltip="Null text, no image."),
                io.Latent.Output("latent", tooltip="Empty frames to sample."),
            ],
        )

    @classmethod
    def execute(cls, model, vae, image, positive, negative, frames) -> io.NodeOutput:
        return io.NodeOutput(*first_frame_conditioning(model, vae, image, positive, negative, frames))


NODES: list[type[io.ComfyNode]] = [FirstFrameConditioning]
