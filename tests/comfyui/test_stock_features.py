"""Temporal layers on stock checkpoints, together with what users already do with these.

For each feature: layers that change nothing give the plain model's frames bit for bit, the others let frames
influence each other while the feature keeps its effect, and the checkpoint's weights come back as they were.

At the published widths with FULL_SIZE=1 in the environment: DEVELOPERS.md says how long it takes.
"""

from __future__ import annotations

import os

import comfy.model_sampling
import pytest
import torch
from emu_video.host.injection import layers_info
from emu_video.host.schedule import ZeroSNRFlow, native_schedule
from emu_video.tests.comfyui.features import FEATURES, PIXELS, control_net, torch_compile
from emu_video.tests.comfyui.stock import FRAMES, V_PREDICTION, Stock

OWN = ""
CHECKPOINTS = {
    "SD1.5": ("sd15", (), OWN),
    "SD2.1": ("sd21", (), OWN),
    "SDXL v": ("sdxl", V_PREDICTION, OWN),
    "SD1.5 AnimateDiff v1": ("sd15", (), "AnimateDiff v1"),  # group norms over clips
    "SD1.5 FancyVideo": ("sd15", (), "FancyVideo"),  # a first frame, and numbers beside the timestep
}
FULL = ("SD1.5", "SD2.1", "SDXL v")
full_size = pytest.mark.skipif(not os.environ.get("FULL_SIZE"), reason="takes 22 GB of memory: set FULL_SIZE=1")


def cases(narrow: tuple[str, ...], full: tuple[str, ...]) -> list:
    return [pytest.param((name, True), id=f"narrow {name}") for name in narrow] + [
        pytest.param((name, False), id=name, marks=full_size) for name in full
    ]


@pytest.fixture(scope="module", params=cases(tuple(CHECKPOINTS), FULL))
def stock(request, tmp_path_factory):
    name, narrow = request.param
    base, marks, file = CHECKPOINTS[name]
    with Stock.loaded(base, narrow, marks, file, tmp_path_factory.mktemp("loras")) as stock:
        yield stock


def differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((one - other).norm() > 1e-3 * other.norm())


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.__name__)
def test_feature(stock, feature):
    set_up = feature(stock)
    plain, video = stock.sample(stock.plain, set_up), stock.sample(stock.trained, set_up)
    assert plain.isfinite().all() and torch.equal(stock.sample(stock.fresh, set_up), plain)

    plain_without, video_without = stock.without_feature
    if feature.__name__ != "context_windows":  # of which frames by themselves know nothing
        assert differ(plain, plain_without)
    assert video.isfinite().all() and differ(video, video_without) and differ(video, plain)

    assert torch.equal(stock.sample(stock.plain, set_up, changed_frame=1)[0], plain[0])
    assert differ(stock.sample(stock.trained, set_up, changed_frame=1)[0], video[0])
    assert stock.is_as_loaded()


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.__name__)
def test_feature_with_three_conditionings(stock, feature):
    """Emu Video Guider with equal weights is KSampler's guidance, whatever stands in front of it."""
    set_up = feature(stock)
    plain = stock.sample(stock.plain, set_up)
    fresh = stock.sample_three(stock.fresh, set_up)
    assert (fresh - plain).norm() < 1e-4 * plain.norm()
    video = stock.sample_three(stock.trained, set_up)
    assert (video - stock.sample(stock.trained, set_up)).norm() < 1e-4 * video.norm()
    assert differ(stock.sample_three(stock.trained, set_up, changed_frame=1)[0], video[0])
    whole = stock.sample_whole(stock.trained, set_up)
    assert whole.isfinite().all() and differ(whole, stock.sample_whole(stock.trained))
    assert stock.is_as_loaded()


def test_every_frame_has_its_own_hint(stock):
    """In frames by themselves a ControlNet's hint changes its own frame alone; in a video the others too."""
    hints = torch.rand(FRAMES, *PIXELS, 3, generator=torch.Generator().manual_seed(4))
    changed = hints.clone()
    changed[2] = 1 - changed[2]
    set_ups = control_net(stock, hints), control_net(stock, changed)
    for model, influenced in ((stock.fresh, [2]), (stock.trained, [*range(FRAMES)])):
        before, after = (stock.sample(model, set_up) for set_up in set_ups)
        assert [frame for frame in range(FRAMES) if differ(after[frame], before[frame])] == influenced


def test_the_checkpoints_own_image(stock):
    """Stock sampling without our nodes, before and after a video: with the prediction that the file says."""
    native = stock.model.get_model_object("model_sampling")
    image = stock.sample(stock.model)
    stock.sample(stock.trained)
    assert torch.equal(stock.sample(stock.model), image)
    if isinstance(native, comfy.model_sampling.V_PREDICTION):  # a file with v_pred and ztsnr
        assert native.sigma_max > 4000
        assert native_schedule(stock.model)[0] == "v"
        # ComfyUI's schedule for such files ends just above zero SNR, ours at it; else they are one.
        assert (image - stock.sample(stock.fresh)).norm() < 1e-2 * image.norm()
    else:
        expected = ZeroSNRFlow if layers_info(stock.fresh).prediction == "v" else comfy.model_sampling.EPS
        assert isinstance(stock.fresh.get_model_object("model_sampling"), expected)


@pytest.mark.parametrize("stock", cases((), FULL), indirect=True)
def test_torch_compile(stock):
    """Tracing takes long; a narrow UNet under torch.compile is in test_injection_with_stock_nodes.py."""
    torch._dynamo.reset()
    set_up = torch_compile(stock)
    plain = stock.sample(stock.plain, set_up)
    assert torch.equal(stock.sample(stock.fresh, set_up), plain)
    torch.testing.assert_close(stock.sample(stock.trained, set_up), stock.sample(stock.trained), atol=1e-4, rtol=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert stock.is_as_loaded()
