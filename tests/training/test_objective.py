from dataclasses import replace

import pytest
import torch
from emu_video.diffusion.schedule import Schedule
from emu_video.training.clips import Clip
from emu_video.training.known_frames import KnownFrames
from emu_video.training.objective import (
    Dropout,
    Objective,
    drop_conditioning,
    sample_timesteps,
    stacked,
    v_error,
)

SCHEDULE = Schedule.from_betas(zero_terminal_snr=True)


def test_timesteps_reach_the_last_and_favour_noise():
    t = sample_timesteps(20_000, 1000, torch.Generator().manual_seed(0))
    assert t.min() >= 0 and t.max() == 999
    assert 0.04 < (t == 999).float().mean() < 0.07
    assert t.float().mean() > 600


def test_text_is_dropped_alone_or_with_the_frames_never_the_frames_alone():
    text, both = drop_conditioning(20_000, Dropout(0.1, 0.2), torch.Generator().manual_seed(0))
    assert not (both & ~text).any()
    assert abs(both.float().mean() - 0.2) < 0.01 and abs((text & ~both).float().mean() - 0.1) < 0.01


def test_the_true_v_has_no_error_and_at_the_last_step_it_is_minus_x0():
    schedule = Schedule.from_betas(zero_terminal_snr=True)
    x0 = torch.randn(4, 4, 2, 2)
    t = torch.tensor([999, 999, 999, 999])
    error, _, noisy = v_error(lambda x, t: -x0, x0, t, schedule, torch.Generator().manual_seed(1))
    assert error.max() < 1e-12
    again = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(noisy, again)  # no trace of x0 is left


def test_known_frames_are_appended_after_the_noisy_channels():
    schedule = Schedule.from_betas(zero_terminal_snr=True)
    seen = []
    x0, known = torch.randn(8, 4, 2, 2), torch.randn(8, 5, 2, 2)

    def denoiser(x, t):
        seen.append(x)
        return x[:, :4]

    v_error(denoiser, x0, torch.full((8,), 500), schedule, torch.Generator().manual_seed(1), known=known)
    assert seen[0].shape == (8, 9, 2, 2) and torch.equal(seen[0][:, 4:], known)


def clip(frames=6, weight=None):
    return Clip(torch.randn(frames, 4, 4, 4, generator=torch.Generator().manual_seed(0)), {}, weight)


def given(sample) -> torch.Tensor:
    return sample.conditioning


def draws(objective, count=400, **options):
    return [objective.draw(clip(), torch.Generator().manual_seed(seed), **options) for seed in range(count)]


def test_a_clip_is_drawn_from_its_generator_alone():
    objective = Objective(SCHEDULE, known=KnownFrames("mixed", noise=250))
    first, again, other = (objective.draw(clip(), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.noisy, again.noisy) and torch.equal(given(first), given(again))
    assert not torch.equal(first.noisy, other.noisy)


def test_the_target_is_the_prediction_that_has_no_error():
    for prediction in ("v", "eps"):
        objective = Objective(SCHEDULE, prediction)
        sample = objective.draw(clip(), torch.Generator().manual_seed(0), t=999)
        expected = -sample.x0 if prediction == "v" else sample.noisy  # at zero SNR the input is the noise
        assert torch.allclose(sample.target, expected, atol=1e-6)
        assert objective.error(expected, sample).max() < 1e-10


def test_text_and_frames_are_dropped_in_their_shares():
    samples = draws(Objective(SCHEDULE, dropout=Dropout(0.2, 0.1)))
    texts = sum(not sample.has_text for sample in samples) / 400
    nothing = [not given(sample).any() for sample in samples]
    assert abs(texts - 0.3) < 0.06 and abs(sum(nothing) / 400 - 0.1) < 0.04
    assert not any(sample.has_text and none for sample, none in zip(samples, nothing, strict=True))
    checked = draws(Objective(SCHEDULE, dropout=Dropout(0.5, 0.5)), 20, t=300)
    assert all(sample.has_text and given(sample).any() and sample.t == 300 for sample in checked)
    assert draws(Objective(SCHEDULE), 1, conditioned=False)[0].conditioning is None


@pytest.mark.parametrize(("law", "low", "high"), [("noisy", 650, 730), ("uniform", 470, 560), ("mixed", 560, 650)])
def test_laws_of_the_timestep(law, low, high):
    samples = draws(Objective(SCHEDULE, timesteps=law))
    assert low < sum(sample.t for sample in samples) / 400 < high
    last = sum(sample.t == 999 for sample in draws(Objective(SCHEDULE, timesteps=law, last=0.3)))
    assert 0.24 < last / 400 < 0.37


def test_super_resolution_reads_the_smaller_version():
    """All frames are known from it; what is denoised is the clip itself."""
    whole = clip()
    both = replace(whole, upsampled=-whole.latents)
    sample = Objective(SCHEDULE, known=KnownFrames(downscale=2)).draw(both, torch.Generator().manual_seed(2), t=400)
    assert torch.equal(given(sample)[:, :4], -whole.latents) and given(sample)[:, 4].eq(1).all()
    assert torch.equal(sample.x0, whole.latents)
    video = Objective(SCHEDULE).draw(both, torch.Generator().manual_seed(2), t=400)
    assert torch.equal(given(video)[0, :4], whole.latents[0])


def test_weights_and_drift():
    weight = torch.zeros(6, 4, 4)
    weight[2] = 3.0
    objective = Objective(SCHEDULE, drift_weight=1.0)
    sample = objective.draw(clip(weight=weight), torch.Generator().manual_seed(0), t=999)
    error = objective.error(sample.target + 1, sample)
    assert (error[2] - 3).abs().max() < 1e-4 and error[[0, 1, 3, 4, 5]].eq(0).all()
    assert abs(objective.drift(sample.target + 1, sample).item() - 1 / 6) < 1e-5  # weight 0 does not count
    unweighted = replace(sample, weight=None)
    assert abs(objective.drift(sample.target + 1, unweighted).item() - 1) < 1e-5
    wave = torch.tensor([1.0, -1.0]).repeat(2)  # a patch of it has no mean
    assert objective.drift(sample.target + wave, sample) < 1e-8


def test_the_errors_of_a_batch_are_those_of_its_clips():
    """A clip without weights counts with weight 1."""
    objective = Objective(SCHEDULE, drift_weight=1.0)
    weights = (torch.rand(6, 4, 4), None, torch.rand(6, 4, 4))
    samples = [
        objective.draw(clip(weight=weight), torch.Generator().manual_seed(seed)) for seed, weight in enumerate(weights)
    ]
    outputs = torch.randn(3, 6, 4, 4, 4)
    batch = stacked(samples)
    assert torch.equal(batch.t, torch.tensor([sample.t for sample in samples]))
    singles = [objective.error(output, sample) for output, sample in zip(outputs, samples, strict=True)]
    assert torch.allclose(objective.error(outputs, batch), torch.stack(singles))
    drifts = [objective.drift(output, sample) for output, sample in zip(outputs, samples, strict=True)]
    assert torch.allclose(objective.drift(outputs, batch), torch.stack(drifts).mean())
    plain = [objective.draw(clip(), torch.Generator(), conditioned=False)]
    assert stacked(plain).weight is None and stacked(plain).conditioning is None


def test_bands_of_the_log():
    objective = Objective(SCHEDULE)
    names = [objective.band(t) for t in (0, 249, 250, 998, 999)]
    assert names == ["loss_0_250", "loss_0_250", "loss_250_500", "loss_750_1000", "loss_last"]
