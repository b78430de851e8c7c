"""Nodes that sample a video, whole and in parts, and set the noise schedule."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.guider import make_guider
from ..host.sampling import ddim_sampler, sample, trailing_sigmas
from ..host.zero_snr import native_schedule, set_schedule

CATEGORY = "Emu Video/sampling"


def guidance_inputs() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="The model of Load Temporal Layers."),
        io.Conditioning.Input("positive", tooltip="Prompt and image."),
        io.Conditioning.Input("image_only", tooltip="Null text and image."),
        io.Conditioning.Input("negative", tooltip="Null text, no image."),
    ]


def weight_inputs() -> list[io.Input]:
    return [
        io.Float.Input(
            "text_guidance", default=7.5, min=0.0, max=100.0, step=0.1, round=0.01,
            tooltip="How strongly the video follows the prompt. More also means more motion.",
        ),
        io.Float.Input(
            "image_guidance", default=2.0, min=0.0, max=100.0, step=0.1, round=0.01,
            tooltip="How strongly the video keeps to the first frame. More means less motion.",
        ),
        io.Float.Input(
            "guidance_rescale", default=0.0, min=0.0, max=1.0, step=0.05, round=0.01,
            tooltip="Takes back the contrast that strong guidance adds: 0 is off, 0.7 is usual.",
        ),
    ]  # fmt: skip


def eta_input() -> io.Input:
    return io.Float.Input(
        "eta", default=0.0, min=0.0, max=1.0, step=0.05, round=0.01,
        tooltip="Fresh noise in each step: 0 is DDIM, 1 is as random as DDPM.",
    )  # fmt: skip


def steps_input() -> io.Input:
    return io.Int.Input("steps", default=50, min=1, max=1000, tooltip="Denoising steps, the last timestep first.")


class EmuVideoSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoSampler",
            display_name="Emu Video Sampler",
            category=CATEGORY,
            description="Samples a video from its three conditionings: DDIM, exact at zero terminal SNR.",
            search_aliases=["video sampler", "ddim", "zero snr"],
            inputs=[
                *guidance_inputs(),
                io.Latent.Input("latent", tooltip="The empty frames of First Frame Conditioning."),
                io.Int.Input(
                    "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                    tooltip="The same seed gives the same video.",
                ),
                steps_input(),
                *weight_inputs(),
                eta_input(),
            ],
            outputs=[io.Latent.Output("latent", tooltip="The frames, for VAE Decode.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, positive, image_only, negative, latent, seed, steps, text_guidance, image_guidance,
        guidance_rescale, eta,
    ) -> io.NodeOutput:  # fmt: skip
        guider = make_guider(model, positive, image_only, negative, text_guidance, image_guidance, guidance_rescale)
        return io.NodeOutput(sample(guider, latent, seed, steps, eta))


class EmuVideoGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoGuider",
            display_name="Emu Video Guider",
            category=CATEGORY,
            description="For SamplerCustomAdvanced: guidance with one weight for image, one for text.",
            inputs=[*guidance_inputs(), *weight_inputs()],
            outputs=[io.Guider.Output("guider")],
        )

    @classmethod
    def execute(
        cls, model, positive, image_only, negative, text_guidance, image_guidance, guidance_rescale
    ) -> io.NodeOutput:
        return io.NodeOutput(
            make_guider(model, positive, image_only, negative, text_guidance, image_guidance, guidance_rescale)
        )


class DDIMSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoDDIM",
            display_name="DDIM Sampler (Zero-SNR)",
            category=CATEGORY,
            description="For SamplerCustomAdvanced: DDIM that is exact at zero terminal SNR.",
            inputs=[eta_input()],
            outputs=[io.Sampler.Output("sampler")],
        )

    @classmethod
    def execute(cls, eta) -> io.NodeOutput:
        return io.NodeOutput(ddim_sampler(eta))


class TrailingTimesteps(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoTrailingSteps",
            display_name="Trailing Timesteps",
            category=CATEGORY,
            description="Evenly spaced timesteps that start at the last one, as zero terminal SNR needs.",
            inputs=[io.Model.Input("model", tooltip="The model to sample."), steps_input()],
            outputs=[io.Sigmas.Output("sigmas")],
        )

    @classmethod
    def execute(cls, model, steps) -> io.NodeOutput:
        return io.NodeOutput(trailing_sigmas(model, steps))


class ZeroTerminalSNRSchedule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoZeroSNR",
            display_name="Zero-Terminal-SNR Schedule",
            category=CATEGORY,
            description="Sets a model's noise schedule. Load Temporal Layers does this by itself.",
            inputs=[
                io.Model.Input("model", tooltip="The model whose schedule to set."),
                io.Combo.Input(
                    "prediction",
                    options=["auto", "v", "eps"],
                    default="auto",
                    tooltip="What the checkpoint was trained to predict; auto takes what ComfyUI found.",
                ),
                io.Boolean.Input(
                    "zero_terminal_snr",
                    default=True,
                    tooltip="Make the last timestep pure noise. For v-prediction only.",
                ),
            ],
            outputs=[io.Model.Output("model")],
        )

    @classmethod
    def execute(cls, model, prediction, zero_terminal_snr) -> io.NodeOutput:
        native, betas = native_schedule(model)
        clone = model.clone()
        set_schedule(clone, native if prediction == "auto" else prediction, betas, zero_terminal_snr)
        return io.NodeOutput(clone)


NODES: list[type[io.ComfyNode]] = [
    EmuVideoSampler,
    EmuVideoGuider,
    DDIMSampler,
    TrailingTimesteps,
    ZeroTerminalSNRSchedule,
]
