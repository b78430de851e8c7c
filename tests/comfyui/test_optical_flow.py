"""The node Interpolate Frames (Optical Flow) and what it takes from ComfyUI."""

import comfy.model_management
import comfy.utils
import pytest
import torch
from emu_video.benchmarks.memory import PeakMemory
from emu_video.host import optical_flow
from emu_video.host.optical_flow import WORKING_BYTES, interpolate
from emu_video.nodes.optical_flow import InterpolateFramesOpticalFlow
from emu_video.tests.optical_flow.test_between import scene


def video(count: int, step: int = 4) -> torch.Tensor:
    return torch.stack([scene(16 + step * index) for index in range(count)])


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_given_frames_stay_bit_for_bit(factor):
    images = video(3)
    (frames,) = InterpolateFramesOpticalFlow.execute(images, factor).args
    assert frames.shape == (2 * factor + 1, *images.shape[1:]) and frames.dtype == images.dtype
    assert torch.equal(frames[::factor], images)
    assert 0 <= frames.min() and frames.max() <= 1
    new = [frame for index, frame in enumerate(frames) if index % factor]
    assert all((frame - given).abs().max() > 0.1 for frame in new for given in images)


def test_input_is_left_as_it_is():
    images = video(2)
    before = images.clone()
    interpolate(images, 2)
    assert torch.equal(images, before)


def test_progress(monkeypatch):
    seen = []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, *_, **__: seen.append((value, total)))
    interpolate(video(3), 3)
    assert seen[-1] == (4, 4) and seen == sorted(seen)


def test_stop_button(monkeypatch):
    made = []

    def frames_between(images, factor, device):
        for index in range(100):
            made.append(index)
            if index == 1:
                comfy.model_management.interrupt_current_processing()
            yield images[0]

    monkeypatch.setattr(optical_flow, "frames_between", frames_between)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        interpolate(video(3), 51)
    assert made == [0, 1]


def test_memory_does_not_grow_with_the_video():
    peaks = []
    pixels = video(1)[0, :, :, 0].numel()
    for count in (2, 6):
        images = video(count)
        with PeakMemory() as memory:
            result = interpolate(images, 2)
        peaks.append(memory.peak - result.nbytes)
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[1] < WORKING_BYTES * pixels


def test_too_much_memory_is_said_before_anything_is_made(monkeypatch):
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: 2e9)
    images = torch.zeros(1, 1080, 1920, 3).expand(100, -1, -1, -1)
    message = r"991 frames of 1920x1080 need about 23.6 GiB of memory, but only 1.9 GiB are free: lower the factor"
    with pytest.raises(ValueError, match=message):
        interpolate(images, 10)


def test_one_frame():
    with pytest.raises(ValueError, match="at least 2 frames, got 1: connect all frames"):
        interpolate(video(1), 2)


def test_factor_one():
    with pytest.raises(ValueError, match="factor is 1: use 2 or more"):
        interpolate(video(2), 1)
    (factor,) = [entry for entry in InterpolateFramesOpticalFlow.GET_SCHEMA().inputs if entry.id == "factor"]
    assert factor.min == 2
