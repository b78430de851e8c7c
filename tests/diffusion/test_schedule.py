import pytest
import torch
from emu_video.diffusion.schedule import (
    Schedule,
    add_noise,
    betas,
    eps_from_v,
    v_target,
    x0_from_eps,
    x0_from_v,
    zero_terminal_snr,
)

ZERO_SNR = Schedule.from_betas()
NATIVE = Schedule.from_betas(zero_terminal_snr=False)


def pair(shape=(4, 3, 2, 2), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))


def test_betas_run_from_start_to_end():
    for name in ("linear", "scaled_linear"):
        values = betas(name, 0.001, 0.02, 100)
        assert values.shape == (100,) and values.dtype == torch.float64
        torch.testing.assert_close(values[[0, -1]], torch.tensor([0.001, 0.02], dtype=torch.float64))
    with pytest.raises(ValueError, match="use 'linear' or 'scaled_linear'"):
        betas("cosine")


def test_stable_diffusion_schedule_does_not_reach_zero_snr():
    assert NATIVE.alpha(999).item() == pytest.approx(0.0682649, abs=1e-7)
    assert not NATIVE.zero_snr


def test_rescaled_schedule_keeps_first_and_ends_at_zero():
    assert ZERO_SNR.zero_snr
    assert ZERO_SNR.alphas_cumprod[0] == NATIVE.alphas_cumprod[0]
    assert (ZERO_SNR.alphas_cumprod.diff() < 0).all()


def test_rescaled_schedule_equals_diffusers():
    rescale = pytest.importorskip("diffusers.schedulers.scheduling_ddim").rescale_zero_terminal_snr
    expected = torch.cumprod(1 - rescale(betas()), dim=0)
    torch.testing.assert_close(zero_terminal_snr(NATIVE.alphas_cumprod), expected, rtol=0, atol=1e-12)


def test_trailing_timesteps_equal_lin_et_al():
    for steps in (1, 3, 7, 10, 25, 30, 50, 250, 999, 1000):
        expected = torch.arange(1000, 0, -1000 / steps, dtype=torch.float64)[:steps].round().long() - 1
        assert ZERO_SNR.trailing_timesteps(steps) == expected.tolist()
    for steps in (0, 1001):
        with pytest.raises(ValueError, match="Steps must be between 1 and 1000"):
            ZERO_SNR.trailing_timesteps(steps)


def test_v_gives_back_image_and_noise_at_every_timestep():
    x0, noise = pair((1000, 3))
    t = torch.arange(1000)
    for schedule in (ZERO_SNR, NATIVE):
        x_t, v = add_noise(x0, noise, t, schedule), v_target(x0, noise, t, schedule)
        torch.testing.assert_close(x0_from_v(x_t, v, t, schedule), x0)
        torch.testing.assert_close(eps_from_v(x_t, v, t, schedule), noise)


def test_last_timestep_is_pure_noise():
    x0, noise = pair()
    assert torch.equal(add_noise(x0, noise, 999, ZERO_SNR), noise)
    assert torch.equal(v_target(x0, noise, 999, ZERO_SNR), -x0)


def test_one_timestep_for_each_item():
    x0, noise = pair()
    t = torch.tensor([0, 10, 500, 999])
    together = add_noise(x0, noise, t, ZERO_SNR)
    for i, each in enumerate(t.tolist()):
        assert torch.equal(together[i], add_noise(x0[i], noise[i], each, ZERO_SNR))


def test_conversions_keep_the_dtype():
    x0, noise = (x.half() for x in pair())
    assert add_noise(x0, noise, 500, ZERO_SNR).dtype == torch.float16


def test_eps_gives_back_image_but_not_at_zero_snr():
    x0, noise = pair()
    x_t = add_noise(x0, noise, 999, NATIVE)
    torch.testing.assert_close(x0_from_eps(x_t, noise, 999, NATIVE), x0)
    with pytest.raises(ValueError, match="use v-prediction or the native schedule"):
        x0_from_eps(x_t, noise, torch.tensor([0, 1, 2, 999]), ZERO_SNR)
