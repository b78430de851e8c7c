"""Nodes that sample a video, whole and in parts, and set the noise schedule."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.guards import check_order, guard
from ..host.guider import PAPER_GUIDANCE, make_guider
from ..host.injection import layers_info
from ..host.oscillating_guidance import with_oscillating_guidance
from ..host.sampling import ddim_sampler, sample, trailing_sigmas
from ..host.schedule import native_schedule, set_schedule
from .base import Node

CATEGORY = "Emu Video/sampling"
AS_TRAINED, AS_SET = "as trained", "as set"


def guidance_inputs() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="The MODEL of Load Temporal Layers."),
        io.Conditioning.Input("positive", tooltip="Prompt and known frames, from First Frame Conditioning."),
        io.Conditioning.Input("image_only", tooltip="Negative prompt and known frames, from the same node."),
        io.Conditioning.Input("negative", tooltip="Negative prompt without known frames, from the same node."),
    ]


def weight_inputs() -> list[io.Input]:
    text, image = PAPER_GUIDANCE
    return [
        io.Float.Input(
            "text_guidance", default=text, min=0.0, max=100.0, step=0.1, round=0.01,
            tooltip="How strongly the video follows the prompt. A higher value also gives more motion.",
        ),
        io.Float.Input(
            "image_guidance", default=image, min=0.0, max=100.0, step=0.1, round=0.01,
            tooltip="How similar the video stays to the first frame. A higher value gives less motion.",
        ),
        io.Float.Input(
            "guidance_rescale", default=0.0, min=0.0, max=1.0, step=0.05, round=0.01, advanced=True,
            tooltip="Reduces the contrast that strong guidance adds. 0 is off, 0.7 is usual.",
        ),
    ]  # fmt: skip


def guidance_input() -> io.Input:
    return io.Combo.Input(
        "guidance", options=[AS_TRAINED, AS_SET], default=AS_TRAINED, optional=True, advanced=True,
        tooltip="As trained uses the weights of the temporal layers for guidance inputs that have their default "
        "value. As set always uses the inputs.",
    )  # fmt: skip


def eta_input() -> io.Input:
    return io.Float.Input(
        "eta", default=0.0, min=0.0, max=1.0, step=0.05, round=0.01, advanced=True,
        tooltip="Noise added in each step. 0 is DDIM, 1 is as random as DDPM.",
    )  # fmt: skip


def steps_input() -> io.Input:
    return io.Int.Input(
        "steps", default=50, min=1, max=1000, tooltip="Denoising steps. More steps are slower and more exact."
    )


class EmuVideoSampler(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoSampler",
            display_name="Emu Video Sampler",
            category=CATEGORY,
            description="Samples a video from three conditionings with DDIM, exact at zero terminal SNR.",
            search_aliases=["video sampler", "ddim", "zero snr", "zsnr", "v-prediction", "image to video", "i2v"],
            inputs=[
                *guidance_inputs(),
                io.Latent.Input("latent", tooltip="The empty latent of First Frame Conditioning."),
                io.Int.Input(
                    "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                    tooltip="Seed of the noise. The same seed gives the same video.",
                ),
                steps_input(),
                *weight_inputs(),
                eta_input(),
                guidance_input(),
            ],
            outputs=[io.Latent.Output("latent", tooltip="The frames, for VAE Decode.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, positive, image_only, negative, latent, seed, steps, text_guidance, image_guidance,
        guidance_rescale, eta, guidance=AS_SET,
    ) -> io.NodeOutput:  # fmt: skip
        guider = make_guider(
            model, positive, image_only, negative,
            text_guidance=text_guidance, image_guidance=image_guidance, guidance_rescale=guidance_rescale,
            as_trained=guidance == AS_TRAINED,
        )  # fmt: skip
        return io.NodeOutput(sample(guider, latent, seed, steps, eta))


class EmuVideoGuider(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoGuider",
            display_name="Emu Video Guider",
            category=CATEGORY,
            description="Guidance with an image and a text weight, for SamplerCustomAdvanced.",
            search_aliases=["video guider", "cfg", "dual guidance", "image guidance"],
            inputs=[*guidance_inputs(), *weight_inputs(), guidance_input()],
            outputs=[io.Guider.Output("guider", tooltip="The guider, for SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(
        cls, model, positive, image_only, negative, text_guidance, image_guidance, guidance_rescale, guidance=AS_SET
    ) -> io.NodeOutput:
        guider = make_guider(
            model, positive, image_only, negative,
            text_guidance=text_guidance, image_guidance=image_guidance, guidance_rescale=guidance_rescale,
            as_trained=guidance == AS_TRAINED,
        )  # fmt: skip
        return io.NodeOutput(guider)


class DDIMSamplerZeroSNR(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoDDIM",
            display_name="DDIM Sampler (Zero-SNR)",
            category=CATEGORY,
            description="DDIM for SamplerCustomAdvanced, exact at zero terminal SNR.",
            search_aliases=["ddim", "zsnr", "zero terminal snr", "eta"],
            inputs=[eta_input()],
            outputs=[io.Sampler.Output("sampler", tooltip="The sampler, for SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(cls, eta) -> io.NodeOutput:
        return io.NodeOutput(ddim_sampler(eta))


class TrailingTimesteps(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoTrailingSteps",
            display_name="Trailing Timesteps",
            category=CATEGORY,
            description="Evenly spaced timesteps that start at the last one, as zero terminal SNR needs.",
            search_aliases=["trailing", "scheduler", "sigmas", "sgm_uniform", "simple"],
            inputs=[io.Model.Input("model", tooltip="The MODEL to sample."), steps_input()],
            outputs=[io.Sigmas.Output("sigmas", tooltip="The sigmas, for SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(cls, model, steps) -> io.NodeOutput:
        return io.NodeOutput(trailing_sigmas(model, steps))


class ZeroTerminalSNRSchedule(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoZeroSNR",
            display_name="Zero-Terminal-SNR Schedule",
            category=CATEGORY,
            description="Sets the noise schedule of a MODEL. Load Temporal Layers already does this.",
            search_aliases=["zsnr", "zero snr", "v-prediction", "model sampling", "rescale betas"],
            inputs=[
                io.Model.Input("model", tooltip="The MODEL whose noise schedule is set."),
                io.Combo.Input(
                    "prediction",
                    options=["auto", "v", "eps"],
                    default="auto",
                    tooltip="What the checkpoint predicts. Auto takes what ComfyUI found in the file.",
                ),
                io.Boolean.Input(
                    "zero_terminal_snr",
                    default=True,
                    tooltip="Makes the last timestep pure noise. Only for v-prediction.",
                ),
            ],
            outputs=[io.Model.Output("model", tooltip="The same MODEL with this noise schedule.")],
        )

    @classmethod
    def execute(cls, model, prediction, zero_terminal_snr) -> io.NodeOutput:
        native, betas = native_schedule(model)
        prediction = native if prediction == "auto" else prediction
        info = layers_info(model)
        if info is not None and prediction != info.prediction:
            raise ValueError(
                f"The temporal layers ({info.family}) of this MODEL predict {info.prediction}, not {prediction}: set "
                "prediction to auto, or remove Zero-Terminal-SNR Schedule."
            )
        if zero_terminal_snr:
            check_order(model, "Zero-Terminal-SNR Schedule")
        clone = model.clone()
        set_schedule(clone, prediction, betas, zero_terminal_snr)
        guard(clone)
        return io.NodeOutput(clone)


class OscillatingGuidance(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmuVideoOscillatingGuidance",
            display_name="Oscillating Guidance",
            category=CATEGORY,
            description="Alternates between strong and weak guidance from step to step, as Imagen Video does. Works "
            "with every guider that has one cfg and a negative conditioning.",
            search_aliases=["cfg schedule", "dynamic cfg", "alternating guidance", "imagen video", "saturation"],
            inputs=[
                io.Model.Input("model", tooltip="The MODEL to sample."),
                io.Float.Input(
                    "low", default=2.0, min=0.0, max=100.0, step=0.1, round=0.01,
                    tooltip="Guidance of every other step. The strong guidance is the sampler's own cfg or "
                    "text_guidance.",
                ),
                io.Int.Input(
                    "constant_steps", default=10, min=0, max=1000,
                    tooltip="Number of first steps that always have strong guidance. Use about a fifth of all steps.",
                ),
            ],
            outputs=[io.Model.Output("model", tooltip="The same MODEL with oscillating guidance.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, low, constant_steps) -> io.NodeOutput:
        return io.NodeOutput(with_oscillating_guidance(model, low, constant_steps))


NODES: list[type[Node]] = [
    EmuVideoSampler,
    EmuVideoGuider,
    DDIMSamplerZeroSNR,
    TrailingTimesteps,
    ZeroTerminalSNRSchedule,
    OscillatingGuidance,
]
