"""The table of docs/second_pass.md: the noise with which a second pass starts."""

from types import SimpleNamespace

import pytest
from comfy.samplers import simple_scheduler
from emu_video.diffusion.schedule import Schedule
from emu_video.launcher.environment import ROOT
from emu_video.temporal_layers.formats.animatediff import SDXL
from emu_video.temporal_layers.formats.fancyvideo import NOISE
from emu_video.temporal_layers.formats.motion_module_family import LINEAR
from emu_video.temporal_layers.noise import Discrete

STEPS = 20
ROWS = {
    "AnimateDiff for SD 1.5": LINEAR,
    "AnimateDiff for SDXL": SDXL,
    "Emu Video's own layers": Discrete(zero_terminal_snr=True),
    "FancyVideo": NOISE,
    "without layers, SD 1.5": Discrete(),
}


@pytest.mark.parametrize("layers", ROWS)
def test_the_table_is_what_ksampler_does(layers):
    lines = (ROOT / "docs" / "second_pass.md").read_text("utf-8").splitlines()
    cells = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in lines if line.startswith("|")}
    noise = ROWS[layers]
    signal = Schedule.from_betas(**noise.betas, zero_terminal_snr=noise.zero_terminal_snr).alphas_cumprod
    sampling = SimpleNamespace(sigmas=((1 - signal) / signal).sqrt())
    for denoise, said in zip(cells["denoise"], cells[layers], strict=True):
        start = simple_scheduler(sampling, int(STEPS / float(denoise)))[-(STEPS + 1)]
        assert float(said) == float(f"{float(start):.2g}")
