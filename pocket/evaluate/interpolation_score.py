"""How good the frames between frames are: each compared with the picture of the world at its own time."""

import math
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from ..world import FINE_TIMES, GIVEN, Clip, render_clips
from ..world.reader import SMALLEST

INNER = slice(GIVEN[0], GIVEN[-1] + 1)  # the frames that every method makes
MODEL = "model"
SIMPLER = ("repetition", "blending", "optical flow")
CEILING = "true frames through the autoencoder"  # no model in its latents can do better
METHODS = (MODEL, *SIMPLER, CEILING)


def places(video: np.ndarray, clip: Clip) -> np.ndarray:
    """[bodies, frames, 3]: centroid x and y in pixels, and area in pixels, of each body of `clip` in each frame.

    video: uint8 [frames, h, w, 3], RGB, at the clip's times. A pixel belongs to the background or to the body whose
    colour, in the light of the frame, is nearest; of a body its largest connected part counts. A body of fewer than
    40 pixels is not there: its centroid is nan, its area 0.
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


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Of all pixels of two videos together, in dB; 78 where they are equal."""
    error = float(np.square(one.astype(np.float64) - other).mean())
    return 10 * math.log10(255**2 / max(error, 1e-3))


def flicker(video: np.ndarray, truth: np.ndarray) -> float:
    """How much the error of a pixel changes from one frame to the next, mean absolute value, of 255."""
    return float(np.abs(np.diff(video.astype(np.float64) - truth, axis=0)).mean())


def compare(video: np.ndarray, truth: np.ndarray, clip: Clip, real: np.ndarray) -> dict[str, float]:
    """The frames of `video` against those of `truth`, at the clip's times; real: `places` of the truth.

    centroid: mean distance in pixels of bodies that both show. present: share of the bodies that the truth shows
    which the video shows, at half their area at least.
    """
    seen = places(video, clip)
    shown = real[..., 2] > 0
    distance = np.hypot(*(seen - real)[..., :2].T).T[shown & (seen[..., 2] > 0)]
    return {
        "centroid": float(distance.mean()) if len(distance) else math.nan,
        "psnr": psnr(video, truth),
        "present": float((seen[..., 2] >= 0.5 * real[..., 2])[shown].mean()),
    }


def at(clip: Clip, frames: np.ndarray) -> Clip:
    """The clip at some of its frames."""
    names = ("x", "y", "radius", "angle")
    bodies = [replace(body, **{name: getattr(body, name)[frames] for name in names}) for body in clip.bodies]
    return replace(clip, light=clip.light[frames], bodies=bodies)


def score(clip: Clip, truth: np.ndarray, videos: dict[str, np.ndarray]) -> dict:
    """Every method's new frames between the given ones; of the model also the given and the outer frames.

    truth: uint8 [37, h, w, 3]; videos: the model's is [37, h, w, 3], with the given frames as it sampled them, all
    others [29, h, w, 3], from the first given frame to the last.
    """
    inner = np.arange(len(FINE_TIMES))[INNER]
    new = np.setdiff1d(inner, GIVEN)
    outer = np.setdiff1d(np.arange(len(FINE_TIMES)), inner)
    real = places(truth, clip)
    sampled = videos[MODEL]
    pasted = sampled.copy()
    pasted[list(GIVEN)] = truth[list(GIVEN)]  # as Join Video does when it is given them
    scores = {}
    for method, video in (videos | {MODEL: pasted[INNER]}).items():
        scores[method] = compare(video[new - inner[0]], truth[new], at(clip, new), real[:, new])
        scores[method]["flicker"] = flicker(video, truth[INNER])
    outer_scores = compare(sampled[outer], truth[outer], at(clip, outer), real[:, outer])
    return {"methods": scores, "given": psnr(sampled[list(GIVEN)], truth[list(GIVEN)]), "outer": outer_scores}


def mean(values: list[float]) -> str:
    """With half the width of its 95 % interval."""
    numbers = np.array([value for value in values if not math.isnan(value)])
    half = 1.96 * numbers.std(ddof=1) / math.sqrt(len(numbers)) if len(numbers) > 1 else math.nan
    return f"{numbers.mean():.2f} ± {half:.2f}" if len(numbers) else "none"


def groups(rows: list[dict]) -> dict[str, list[dict]]:
    """Rows by motion, and together; still clips count only by themselves: repeating their frames is perfect."""
    kinds = {kind: [r for r in rows if r["kind"] == kind] for kind in dict.fromkeys(r["kind"] for r in rows)}
    moving = [r for r in rows if r["kind"] != "still"]
    together = {
        "all that move": moving,
        "of these, seen": [r for r in moving if not r["unseen"]],
        "of these, held-out": [r for r in moving if r["unseen"]],
    }
    return kinds | {name: members for name, members in together.items() if members}


def table(rows: list[dict], title: str, columns: dict[str, Callable[[dict], float]]) -> str:
    lines = [f"| {title} | clips | " + " | ".join(columns) + " |", "|---|---|" + "---|" * len(columns)]
    for name, members in groups(rows).items():
        cells = [mean([value(row) for row in members]) for value in columns.values()]
        lines.append(f"| {name} | {len(members)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tables(rows: list[dict]) -> str:
    """Markdown: a table for each figure, and one of what only the model makes; mean over clips and 95 % interval."""

    def by_method(figure: str) -> dict[str, Callable[[dict], float]]:
        return {method: lambda row, m=method: row["methods"][m][figure] for method in METHODS}

    titles = {
        "centroid": "centroid error of the new frames, pixels",
        "psnr": "PSNR of the new frames, dB",
        "present": "share of new frames with the object",
        "flicker": "flicker, of 255",
    }
    own = {
        "given frames as sampled, PSNR": lambda row: row["given"],
        "outer frames, centroid error": lambda row: row["outer"]["centroid"],
        "outer frames, PSNR": lambda row: row["outer"]["psnr"],
    }
    parts = [table(rows, title, by_method(figure)) for figure, title in titles.items()]
    return "\n\n".join([*parts, table(rows, "the model alone", own)])
