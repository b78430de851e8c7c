"""Each metric sees the faults that it claims to see, on videos whose faults are known, and is blind where it says so.

The faults are those of a study of toy videos: static, reversed, shuffled, jittering, vanishing, drifting, faded,
blurred, flickering, noisy. Lower and higher are against the true video.
"""

from functools import cache

import cv2
import numpy as np
import pytest
from emu_video.evaluation.metrics import motion, stability
from emu_video.evaluation.metrics.fidelity import psnr, ssim
from emu_video.evaluation.videos import Video

FRAMES, SIZE = 12, 128


@cache
def texture() -> np.ndarray:
    noise = np.random.default_rng(3).normal(0, 1, (SIZE, SIZE, 3)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 3) * 25


def scene(x: float, y: float, colour=(200, 60, 40), radius: float = 22, shown: bool = True) -> np.ndarray:
    """A disc with a ring on a softly textured ground, drawn with subpixel accuracy; [H, W, 3] in 0..255."""
    ground = 110 + texture()
    if not shown:
        return ground.clip(0, 255)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    distance = np.hypot(columns - x, rows - y)[..., None]
    disc = (radius - distance).clip(0, 1)
    ring = (3 - abs(distance - radius * 0.6)).clip(0, 1)
    return (ground * (1 - disc) + np.array(colour) * disc * (1 - ring) + 240 * disc * ring).clip(0, 255)


def path(count: int = FRAMES) -> list[tuple[float, float]]:
    return [(30 + 5.5 * i, 64 + 2.0 * i) for i in range(count)]


def as_video(frames) -> np.ndarray:
    return np.stack(frames).round().clip(0, 255).astype(np.uint8)


@cache
def videos() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    real = as_video([scene(*at) for at in path()])
    order = [0, 5, 2, 9, 1, 7, 3, 11, 4, 8, 6, 10]
    offsets = rng.normal(0, 4, (FRAMES, 2))
    offsets[0] = 0
    floats = real.astype(float)
    steps = np.linspace(0, 1, FRAMES)[:, None, None, None]
    pulse = np.array([0, 1] * (FRAMES // 2))[:, None, None, None]
    return {
        "real": real,
        "static": real[:1].repeat(FRAMES, 0),
        "reversed": real[::-1].copy(),
        "shuffled": real[order],
        "jitter": as_video([scene(x + dx, y + dy) for (x, y), (dx, dy) in zip(path(), offsets, strict=True)]),
        "vanishes": as_video([scene(*at, shown=i < FRAMES // 2) for i, at in enumerate(path())]),
        "hue drift": as_video(
            [scene(*at, colour=(200 - 14 * i, 60 + 14 * i, 40 + 14 * i)) for i, at in enumerate(path())]
        ),
        "brightness drift": as_video(floats + 60 * steps),
        "faded": as_video((floats - 128) * 0.5 + 128),
        "blurred": np.stack([real[0], *(cv2.GaussianBlur(frame, (0, 0), 2.5) for frame in real[1:])]),
        "flicker": as_video(floats + 24 * pulse),
        "noise": as_video(np.concatenate([floats[:1], floats[1:] + rng.normal(0, 14, floats[1:].shape)])),
        "slow": as_video([scene(30 + 0.7 * i, 64) for i in range(FRAMES)]),
        "fast": as_video([scene(24 + 7.2 * i, 64) for i in range(FRAMES)]),
    }


MEASURES = {
    "psnr": lambda video: psnr(video[0], videos()["real"][0]),
    "ssim": lambda video: ssim(video[0], videos()["real"][0]),
    "motion": lambda video: motion.motion_score(Video(video, 8)),
    "dynamic": lambda video: motion.dynamic_degree(motion.flows(video), 8),
    "smoothness": motion.motion_smoothness,
    "warp error": lambda video: motion.warp_error(video, motion.flows(video)),
    "stability": stability.temporal_stability,
    "colour drift": stability.colour_drift,
    "background drift": stability.background_drift,
    "sharpness": stability.sharpness_ratio,
}


@cache
def measured(measure: str, video: str) -> float:
    return MEASURES[measure](videos()[video])


SEEN = [
    ("psnr", "lower", ["reversed", "faded"]),
    ("ssim", "lower", ["reversed"]),
    ("motion", "lower", ["static", "slow"]),
    ("motion", "higher", ["shuffled", "fast"]),
    ("dynamic", "lower", ["static", "slow"]),
    ("smoothness", "lower", ["shuffled", "jitter", "flicker", "noise"]),
    ("warp error", "higher", ["flicker", "noise", "shuffled"]),
    ("stability", "lower", ["shuffled", "flicker", "noise", "brightness drift"]),
    ("colour drift", "higher", ["hue drift", "brightness drift", "flicker", "vanishes"]),
    ("background drift", "higher", ["brightness drift", "flicker"]),
    ("sharpness", "lower", ["blurred", "vanishes"]),
    ("sharpness", "higher", ["noise"]),
]


@pytest.mark.parametrize(
    "measure, way, video", [(measure, way, video) for measure, way, found in SEEN for video in found]
)
def test_faults_are_seen(measure, way, video):
    """Clearly: by a tenth of the true video's value, or of the distance to the best one, at least."""
    real, value = measured(measure, "real"), measured(measure, video)
    margin = 0.1 * max(abs(real), 1e-9) if measure not in ("smoothness", "stability") else 0.25 * (1 - real)
    assert value < real - margin if way == "lower" else value > real + margin, (real, value)


BLIND = [
    ("psnr", ["static", "shuffled", "vanishes", "hue drift", "blurred"]),
    ("ssim", ["faded", "static"]),
    ("motion", ["reversed"]),
    ("stability", ["reversed"]),
    ("background drift", ["jitter", "hue drift", "vanishes", "shuffled"]),
    ("colour drift", ["static", "reversed"]),
]


@pytest.mark.parametrize("measure, video", [(measure, video) for measure, found in BLIND for video in found])
def test_other_faults_are_not_mistaken_for_it(measure, video):
    real, value = measured(measure, "real"), measured(measure, video)
    assert value == pytest.approx(real, rel=0.25, abs=0.6), (real, value)


@pytest.mark.parametrize("measure", ["smoothness", "stability"])
def test_static_videos_score_best_as_the_docstrings_warn(measure):
    assert measured(measure, "static") == pytest.approx(1, abs=1e-6) and measured("warp error", "static") < 1e-9
    assert measured("motion", "static") < 0.01


def test_motion_score_is_the_energy_of_the_displacement():
    """A textured picture that moves by 3 pixels a frame, at the size that the score is stated at."""
    wide = cv2.GaussianBlur(np.random.default_rng(1).normal(0, 90, (256, 400, 3)), (0, 0), 2) * 4 + 128
    picture = wide.clip(0, 255).astype(np.uint8)
    video = np.stack([picture[:, 3 * i : 3 * i + 256] for i in range(8)])
    assert motion.motion_score(Video(video, 8)) == pytest.approx(9, rel=0.1)
    assert motion.motion_score(Video(video, 16)) == pytest.approx(36, rel=0.1)
    half = np.stack([cv2.resize(frame, (128, 128), interpolation=cv2.INTER_AREA) for frame in video])
    assert motion.motion_score(Video(half, 8)) == pytest.approx(9, rel=0.2)


def test_drifts_are_in_steps_of_255():
    video = np.full((3, 16, 16, 3), 100, np.uint8)
    video[1] += 4
    video[2] += 8
    assert stability.background_drift(video) == stability.colour_drift(video) == 6


def test_too_short_videos_are_refused():
    one = np.zeros((1, 32, 32, 3), np.uint8)
    for measure in (lambda v: motion.motion_score(Video(v, 8)), motion.motion_smoothness, stability.temporal_stability):
        with pytest.raises(ValueError, match="at least"):
            measure(one)
