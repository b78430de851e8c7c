"""Every other frame of real video, held out and predicted: closer to the truth than blending, on every clip."""

import cv2
import pytest
import torch
from emu_video.benchmarks.interpolation import CLIPS, blending, clip_path, optical_flow, read, score


@pytest.fixture(autouse=True)
def one_core():
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    yield
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


@pytest.mark.parametrize("clip", CLIPS)
def test_better_than_blending(clip):
    video = read(clip_path(clip), height=272)
    flow, blend = (score(method, video, every=max(1, len(video) // 60)) for method in (optical_flow, blending))
    assert flow[0] > blend[0], "PSNR"
    assert flow[1] > blend[1], "SSIM"
