"""Real video: held-out frames are predicted better than by blending, and scene cuts are found."""

import cv2
import pytest
import torch
from emu_video.benchmarks.interpolation import CLIPS, blending, clip_path, optical_flow, read, repetition, score
from emu_video.optical_flow.cuts import is_cut
from emu_video.optical_flow.flow import estimate

pytestmark = pytest.mark.slow

CUTS = (30, 76, 137, 187, 242)
"""The frames of `bikes` that begin a scene: those that its encoder stored whole."""


@pytest.fixture(autouse=True)
def one_core():
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    yield
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


def held_out_scores(clip: str, *methods) -> list[tuple[float, float]]:
    """PSNR and SSIM of each method over about 30 frames all through the clip."""
    video = read(clip_path(clip), height=272)
    return [score(method, video, every=max(1, len(video) // 60))[:2] for method in methods]


@pytest.mark.parametrize("clip", [name for name in CLIPS if name != "carphone_distorted"])
def test_better_than_blending(clip):
    flow, blend = held_out_scores(clip, optical_flow, blending)
    assert flow[0] > blend[0] + 0.5, "PSNR"
    assert flow[1] > blend[1] + 0.005, "SSIM"


def test_near_blending_where_the_encoder_itself_blended():
    """Two thirds of the held-out frames of these 7 kB are B-frames, mostly means of their neighbours without motion.

    Blending remakes them, down to 63 dB; nothing that moves pixels can do better on them (RIFE is further behind).
    """
    flow, blend, repeat = held_out_scores("carphone_distorted", optical_flow, blending, repetition)
    assert blend[0] - 0.6 < flow[0] and blend[1] - 0.003 < flow[1]
    assert flow[0] > repeat[0] and flow[1] > repeat[1]


def test_scene_cuts_are_found_and_fast_motion_is_none():
    video = read(clip_path("bikes")).movedim(-1, 1)

    def cut(frame: int, gap: int = 1) -> bool:
        first, second = video[frame - gap : frame - gap + 1], video[frame : frame + 1]
        return is_cut(first, second, estimate(first, second))

    assert [frame for frame in CUTS if not cut(frame)] == []
    fast = [*range(CUTS[0] + 2, CUTS[2], 9), 73, 75, 98, 101]  # shaken, zoomed and whipped pans
    assert [frame for frame in fast if cut(frame, gap=2) and not set(CUTS) & {frame, frame - 1}] == []
