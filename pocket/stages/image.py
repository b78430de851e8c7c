"""Stage 3: text to image. v-prediction with zero terminal SNR; these weights are frozen in all later stages.

Probes must find the caption's words (word_probe.py), the geometry of the shapes (geometry.py) and their phrases
(phrase_probe.py) in the features, and timesteps are weighted by their usual error (training/timestep_weights.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...diffusion.schedule import Schedule, x0_from_v
from ...training.loop import train
from ...training.objective import PATCH, TIMESTEPS, sample_timesteps, v_error
from ...training.timestep_weights import TimestepWeights
from ..model.denoiser import Denoiser
from ..model.text_encoder import pad_tokens
from ..recipe import ImageStage
from .clips import draw_pictures, latent_clips, step_generator
from .geometry import GeometryProbe, cells_of, geometry_of
from .phrase_probe import PhraseProbe
from .run import Run
from .word_probe import WordProbe

NOISY = 900  # timesteps above it are logged separately
PROBED = 3  # output blocks whose features must tell geometry and phrases: those behind the middle of the network


def make(run: Run, name: str, compile_model: bool = True, **options) -> None:
    """Train the stage and save its result. options: see `training.loop.train`."""
    stage = run.stage(name, ImageStage)
    batch = stage.settings.batch
    sets = [(latent_clips(run, p.clips).to(run.device), round(p.share * batch), p.has_captions) for p in stage.pictures]
    geometries = [geometry_of(p.clips).to(run.device) for p in stage.pictures]
    torch.manual_seed(stage.seed)  # seeded after the clips, because making uncached clips also draws random numbers
    model = Denoiser(run.recipe.shape)
    part = model.text if stage.start == "text" else model
    part.load_state_dict(run.load(stage.start))
    model.to(run.device)
    words = WordProbe(model.unet.feature_channels).to(run.device)
    geometry = GeometryProbe(model.unet.feature_channels[:PROBED]).to(run.device)
    phrases = PhraseProbe(model.unet.feature_channels[:PROBED]).to(run.device)
    network = torch.compile(model.with_features, dynamic=False) if compile_model else model.with_features
    schedule = Schedule.from_betas(zero_terminal_snr=True)
    weights = TimestepWeights(len(schedule)).to(run.device)
    empty = torch.tensor(pad_tokens([]), device=run.device)

    def loss(step: int, positions: range) -> tuple[Tensor, dict[str, float]]:
        generator = step_generator(stage.seed, step, run.device)
        x0, near, tokens, drawn = draw_pictures(sets, generator)
        without_text = torch.rand(len(tokens), 1, generator=generator, device=run.device) < stage.drop_text
        tokens = torch.where(without_text, empty, tokens)
        t = timesteps(stage.timesteps, stage.last_timestep, len(x0), len(schedule), generator)
        context, pooled = model.encode(tokens)
        features: list[Tensor] = []

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            v, entering = network(x, t, context, pooled)
            features.extend(entering)
            return v

        error, v, noisy = v_error(denoise, x0, t, schedule, generator)
        error = (error.mean(1) * torch.where(near, stage.near_weight, 1.0)).mean((1, 2))
        drift = F.avg_pool2d(x0_from_v(noisy, v, t, schedule) - x0, PATCH).square().mean((1, 2, 3))
        error = error + stage.drift_weight * drift
        word_loss = words.error(features, tokens)
        bodies = torch.cat([each[index, frame] for each, (index, frame) in zip(geometries, drawn, strict=True)])
        cells = [cells_of(bodies, level.shape[-1]) for level in features[:PROBED]]
        geometry_error = geometry.error(features, cells)
        phrase_error = phrases.error(context, features, tokens, cells)
        is_noisy = t >= NOISY
        figures = {
            "error_noisy": (error[is_noisy].sum().item(), int(is_noisy.sum())),
            "error_clear": (error[~is_noisy].sum().item(), int((~is_noisy).sum())),
            "words": word_loss.item(),
            "geometry": geometry_error.item(),
            "phrases": phrase_error.item(),
        }
        probes = stage.word_weight * word_loss + geometry_error + stage.phrase_weight * phrase_error
        return weights(error, t).mean() + probes, figures

    trained = {"model": model, "words": words, "geometry": geometry, "phrases": phrases, "weights": weights}
    result = train(trained, loss, stage.settings, run.folder, run.name(name), **options)
    if not result.stopped:
        run.save(name, result.average["model"])


def timesteps(law: str, last: float, count: int, steps: int, generator: torch.Generator) -> Tensor:
    """Draw timesteps [count] from a distribution of TIMESTEPS; a "mixed" batch is half noisy, half uniform."""
    if TIMESTEPS[law]:
        return sample_timesteps(count, steps, generator, TIMESTEPS[law], last)
    half = count // 2
    laws = (half, TIMESTEPS["noisy"]), (count - half, TIMESTEPS["uniform"])
    return torch.cat([sample_timesteps(n, steps, generator, bias, last) for n, bias in laws])
