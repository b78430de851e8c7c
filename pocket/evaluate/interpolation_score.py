"""Score interpolated frames: compare each with the picture of the world at the same time."""

import math
from dataclasses import replace

import cv2
import numpy as np

from ...evaluation.intervals import finite
from ...evaluation.metrics.fidelity import psnr
from ..world import FINE_TIMES, GIVEN, Clip, render_clips
from ..world.reader import SMALLEST
from ..world.roundness import shape_error

INNER = slice(GIVEN[0], GIVEN[-1] + 1)  # the frames that every method makes
MODEL = "model"
SIMPLER = ("repetition", "blending", "optical flow")
CEILING = "true frames through the autoencoder"  # no model in its latents can do better
METHODS = (MODEL, *SIMPLER, CEILING)


def locate_bodies(video: np.ndarray, clip: Clip) -> np.ndarray:
    """Return [bodies, frames, 3]: centroid x and y, and area, in pixels, of each body of `clip` in each frame.

    video: uint8 [frames, h, w, 3], RGB, at the clip's times. A pixel belongs to the background or to the body whose
    colour, in the light of the frame, is most similar; only its largest connected part counts. A body of fewer than 40
    pixels counts as missing: its centroid is nan, its area 0.
    """
    ground = render_clips([replace(clip, bodies=[])])[0][0].movedim(1, -1).numpy().astype(np.float32)
    tints = [(body.rgb * clip.light[:, None]).astype(np.float32)[:, None, None] for body in clip.bodies]
    distances = np.stack([np.square(video - colour).sum(-1) for colour in (ground, *tints)])
    owner = distances.argmin(0)
    found = np.zeros((len(clip.bodies), len(video), 3))
    for body, of_frames in enumerate(found, 1):
        for frame, place in zip(owner == body, of_frames, strict=True):
            _, _, stats, centres = cv2.connectedComponentsWithStats(frame.astype(np.uint8))
            areas = stats[1:, cv2.CC_STAT_AREA]
            if len(areas) and areas.max() >= SMALLEST:
                place[:] = (*centres[1 + areas.argmax()], areas.max())
            else:
                place[:] = math.nan, math.nan, 0.0
    return found


def flicker(video: np.ndarray, truth: np.ndarray) -> float:
    """Return how much the error of a pixel changes from one frame to the next: mean absolute value, of 255."""
    return float(np.abs(np.diff(video.astype(np.float64) - truth, axis=0)).mean())


def roundness(frames: np.ndarray, clip: Clip) -> float | None:
    """Return the median distance of the drawn shape from the ideal one, as `shape_error`; None for two shapes."""
    if len(clip.bodies) > 1:
        return None
    errors = finite(shape_error(frame, (clip.bodies[0].shape,)) for frame in frames)
    return float(np.median(errors)) if len(errors) else None


def compare(video: np.ndarray, truth: np.ndarray, clip: Clip, real: np.ndarray) -> dict[str, float | None]:
    """Compare frames of `video` with those of `truth`, at the clip's times; real: `locate_bodies` of the truth.

    centroid: mean distance in pixels of bodies that both show. present: share of the true bodies that the video shows
    with at least half of their area.
    """
    seen = locate_bodies(video, clip)
    shown = real[..., 2] > 0
    distance = np.hypot(*(seen - real)[..., :2].T).T[shown & (seen[..., 2] > 0)]
    return {
        "centroid": float(distance.mean()) if len(distance) else None,
        "psnr": psnr(video, truth),
        "present": float((seen[..., 2] >= 0.5 * real[..., 2])[shown].mean()),
    }


def select_frames(clip: Clip, frames: np.ndarray) -> Clip:
    """Return the clip at some of its frames."""
    names = ("x", "y", "radius", "angle")
    bodies = [replace(body, **{name: getattr(body, name)[frames] for name in names}) for body in clip.bodies]
    return replace(clip, light=clip.light[frames], bodies=bodies)


def score(clip: Clip, truth: np.ndarray, videos: dict[str, np.ndarray]) -> dict:
    """Score each method's new frames between the given ones, and the model's given and outer frames.

    truth: uint8 [37, h, w, 3]; videos: the model's is [37, h, w, 3], with the given frames as it sampled them, all
    others [29, h, w, 3], from the first given frame to the last.
    """
    inner = np.arange(len(FINE_TIMES))[INNER]
    new = np.setdiff1d(inner, GIVEN)
    outer = np.setdiff1d(np.arange(len(FINE_TIMES)), inner)
    real = locate_bodies(truth, clip)
    middle = new[1::3]  # halfway between two given frames
    sampled = videos[MODEL]
    pasted = sampled.copy()
    pasted[list(GIVEN)] = truth[list(GIVEN)]  # as Join Video does with given frames
    scores = {}
    for method, video in (videos | {MODEL: pasted[INNER]}).items():
        scores[method] = compare(video[new - inner[0]], truth[new], select_frames(clip, new), real[:, new])
        scores[method]["flicker"] = flicker(video, truth[INNER])
        scores[method]["roundness"] = roundness(video[middle - inner[0]], clip)
    outer_scores = compare(sampled[outer], truth[outer], select_frames(clip, outer), real[:, outer])
    return {"methods": scores, "given": psnr(sampled[list(GIVEN)], truth[list(GIVEN)]), "outer": outer_scores}
