"""The noise schedule of a MODEL: exact zero terminal SNR, or the native one, for v- and eps-prediction.

ComfyUI's own sigmas are noise over signal, infinite at zero SNR. Here the same process is written as a flow:
with s = sigma / (alpha + sigma) and x = x_vp / (alpha + sigma), x = (1 - s) x0 + s eps. s ends at exactly 1,
and ComfyUI's samplers for flow models solve it unchanged; Euler's step is DDIM's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import comfy.model_patcher
import comfy.model_sampling
import torch
from comfy.patcher_extension import CallbacksMP
from torch import Tensor

from ..diffusion.schedule import Schedule

SCHEDULE = "emu_video_schedule"  # attachment of a MODEL whose schedule this module set: a `Stated`


class Stated(NamedTuple):
    """Schedule that this pack set on a MODEL: the model_sampling object, and the betas that it was made of."""

    sampling: Any
    betas: dict[str, Any]


class ZeroSNRFlow(torch.nn.Module, comfy.model_sampling.CONST):
    """A model_sampling whose `sigmas` are the flow's s, [N], the last exactly 1; the network predicts v."""

    sigmas: Tensor
    noise_scale = 1.0
    zsnr = True

    def __init__(self, schedule: Schedule):
        super().__init__()
        alpha, sigma = schedule.alphas_cumprod.sqrt(), (1 - schedule.alphas_cumprod).sqrt()
        self.register_buffer("sigmas", (sigma / (alpha + sigma)).float())
        self.num_timesteps = len(schedule)

    @property
    def sigma_min(self) -> Tensor:
        return self.sigmas[0]

    @property
    def sigma_max(self) -> Tensor:
        return self.sigmas[-1]

    def timestep(self, sigma: Tensor) -> Tensor:
        distance = (sigma.to(self.sigmas.device).reshape(1, -1) - self.sigmas[:, None]).abs()
        return distance.argmin(dim=0).view(sigma.shape).to(sigma.device)

    def sigma(self, timestep: Tensor) -> Tensor:
        t = timestep.float().to(self.sigmas.device).clamp(0, self.num_timesteps - 1)
        return torch.lerp(self.sigmas[t.floor().long()], self.sigmas[t.ceil().long()], t.frac()).to(timestep.device)

    def percent_to_sigma(self, percent: float) -> float:
        if percent <= 0.0:
            return 1.0
        if percent >= 1.0:
            return 0.0
        return self.sigma(torch.tensor((1.0 - percent) * (self.num_timesteps - 1))).item()

    def calculate_input(self, sigma: Tensor, noise: Tensor) -> Tensor:
        s = comfy.model_sampling.reshape_sigma(sigma, noise.ndim)
        return noise / torch.hypot(s, 1 - s)

    def calculate_denoised(self, sigma: Tensor, model_output: Tensor, model_input: Tensor) -> Tensor:
        s = comfy.model_sampling.reshape_sigma(sigma, model_output.ndim)
        norm = torch.hypot(s, 1 - s)
        return ((1 - s) / norm) * (model_input / norm) - (s / norm) * model_output


class NativeEPS(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS):
    """ComfyUI's own model_sampling for eps-prediction."""


class NativeV(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.V_PREDICTION):
    """ComfyUI's own model_sampling for v-prediction."""


def model_sampling(schedule: Schedule, prediction: str) -> ZeroSNRFlow | NativeEPS | NativeV:
    """Return the model_sampling of a schedule. Raises ValueError for eps-prediction with zero terminal SNR."""
    if prediction not in ("v", "eps"):
        raise ValueError(f"Unknown prediction '{prediction}': use 'v' or 'eps'.")
    if schedule.zero_snr:
        if prediction == "eps":
            raise ValueError(
                "An eps-prediction model cannot use zero terminal SNR: at the last timestep its output contains "
                "nothing of the image. Turn zero_terminal_snr off, or use a v-prediction checkpoint."
            )
        return ZeroSNRFlow(schedule)
    sampling = NativeEPS() if prediction == "eps" else NativeV()
    sampling.num_timesteps = len(schedule)
    sampling.set_sigmas(native_sigmas(schedule))
    return sampling


def native_sigmas(schedule: Schedule) -> Tensor:
    """Return ComfyUI's own sigmas of a schedule, noise over signal, [N]."""
    return ((1 - schedule.alphas_cumprod) / schedule.alphas_cumprod).sqrt()


def lcm_sampling(sampling: Any, schedule: Schedule) -> Any:
    """Return a copy of the LCM sampling that ModelSamplingDiscrete made, with the sigmas of `schedule`."""
    sampling = copy.deepcopy(sampling)
    sampling.set_sigmas(native_sigmas(schedule)[sampling.skip_steps - 1 :: sampling.skip_steps])
    return sampling


def set_schedule(
    model: comfy.model_patcher.ModelPatcher, prediction: str, betas: dict[str, Any], zero_terminal_snr: bool
) -> None:
    """Set prediction ("v", "eps") and schedule on a MODEL clone. LCM sampling is kept.

    betas: the arguments of diffusion.schedule.betas. Raises ValueError for eps with zero terminal SNR.
    """
    schedule = Schedule.from_betas(**betas, zero_terminal_snr=zero_terminal_snr)
    present: Any = model.get_model_object("model_sampling")
    if prediction == "eps" and not zero_terminal_snr and hasattr(present, "skip_steps"):
        sampling = lcm_sampling(present, schedule)
    else:
        sampling = model_sampling(schedule, prediction)
    model.add_object_patch("model_sampling", sampling)
    model.set_attachments(SCHEDULE, Stated(sampling, betas))
    model.remove_callbacks_with_key(CallbacksMP.ON_LOAD, SCHEDULE)
    model.add_callback_with_key(CallbacksMP.ON_LOAD, SCHEDULE, own_sigmas_of(sampling))


def own_sigmas_of(sampling: Any) -> Callable[..., None]:
    """Return a callback that gives `sampling` its sigmas again when its MODEL was loaded.

    With dynamic VRAM, ComfyUI keeps the buffers of the model that was loaded before by their names, and writes them
    into whatever has these names now: an image MODEL's sigmas into those of the video MODEL of the same checkpoint.
    """
    own = {name: buffer.clone() for name, buffer in sampling.named_buffers()}

    def restore(patcher: comfy.model_patcher.ModelPatcher, *_: Any) -> None:
        kept: dict[str, Tensor] = getattr(patcher, "backup_buffers", {})  # ComfyUI before dynamic VRAM has none
        names = [name for name in kept if name.startswith("model_sampling.")]
        if not names or patcher.model.model_sampling is not sampling:
            return
        for name in names:
            del kept[name]
        for name in list(sampling._buffers):
            if name in own:
                setattr(sampling, name, own[name].to(patcher.load_device))
            else:
                delattr(sampling, name)

    return restore


def predicts_v(model: comfy.model_patcher.ModelPatcher) -> bool:
    """Return whether a MODEL's current schedule is for v-prediction."""
    sampling = model.get_model_object("model_sampling")
    return isinstance(sampling, (ZeroSNRFlow, comfy.model_sampling.V_PREDICTION))


def native_schedule(model: comfy.model_patcher.ModelPatcher) -> tuple[str, dict[str, Any]]:
    """Return prediction and betas of a MODEL: those of its temporal layers, or those that ComfyUI detected.

    Raises ValueError for a flow or EDM model, which has no betas.
    """
    sampling = model.get_model_object("model_sampling")
    if predicts_v(model):
        prediction = "v"
    elif isinstance(sampling, comfy.model_sampling.EPS):
        prediction = "eps"
    else:
        prediction = ""
    if not prediction or not isinstance(sampling, (ZeroSNRFlow, comfy.model_sampling.ModelSamplingDiscrete)):
        raise ValueError("This model has no betas, because it is a flow or EDM model: use it without this node.")
    stated: Stated | None = model.get_attachment(SCHEDULE)
    if stated is not None:
        return prediction, stated.betas
    settings = model.model.model_config.sampling_settings
    names = {"linear": "scaled_linear", "sqrt_linear": "linear"}  # ComfyUI's names for the same two schedules
    return prediction, {
        "schedule": names[settings.get("beta_schedule", "linear")],
        "start": settings.get("linear_start", 0.00085),
        "end": settings.get("linear_end", 0.012),
        "steps": settings.get("timesteps", 1000),
    }


def signal_and_noise(sampling: Any, sigma: float) -> tuple[float, float]:
    """Return (a, b) of x = a x0 + b eps at a sigma of a MODEL, which is a flow's or noise over signal."""
    return (1.0 - sigma, sigma) if isinstance(sampling, comfy.model_sampling.CONST) else (1.0, sigma)
