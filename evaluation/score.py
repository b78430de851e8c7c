"""Score videos with all metrics that need no weights, and with those whose encoders are given."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ..optical_flow import between, flow, warp
from ..training.checkpoint import disk_full_named
from . import pictures, videos
from .metrics import embeddings, fidelity, motion, stability
from .results import Results, digest
from .sweep import Clip
from .tables import markdown
from .videos import Video


@dataclass(frozen=True)
class Encoders:
    """Embedding functions; None if the user has no weights for one.

    image: uint8 [T, H, W, 3] -> [T, D]. text: a prompt -> [D] in the same space. subject: like image, by another model
    such as DINO. video: uint8 [T, H, W, 3] -> [D]. key: names the files that were loaded.
    """

    image: Callable[[np.ndarray], Tensor] | None = None
    text: Callable[[str], Tensor] | None = None
    subject: Callable[[np.ndarray], Tensor] | None = None
    video: Callable[[np.ndarray], Tensor] | None = None
    key: str = ""


class Seen:
    """A video with intermediate results that several metrics share, each computed once.

    first, reference: first frame of the whole video, of which `video` may be a part, and its conditioning image or
    None; uint8 [h, w, 3].
    """

    def __init__(self, video: Video, first: np.ndarray, reference: np.ndarray | None, prompt: str, encoders: Encoders):
        self.video, self.first, self.reference, self.prompt, self.encoders = video, first, reference, prompt, encoders
        self.frames = video.frames

    @cached_property
    def flows(self):
        return motion.flows(self.frames)

    @cached_property
    def embedded(self) -> Tensor:
        assert self.encoders.image
        return self.encoders.image(self.frames)

    def has(self, need: str) -> bool:
        return {
            "": True,
            "reference": self.reference is not None,
            "image": self.encoders.image is not None,
            "image and reference": self.encoders.image is not None and self.reference is not None,
            "text": self.encoders.image is not None and self.encoders.text is not None and bool(self.prompt),
            "subject": self.encoders.subject is not None,
        }[need]


class Metric(NamedTuple):
    """A metric. title: name and unit. better: the better direction, "" if there is none. needs: see Seen.has."""

    title: str
    better: str
    needs: str
    frames: int
    measure: Callable[[Seen], float]
    fooled_by: str


METRICS = {
    "psnr": Metric(
        "PSNR of the first frame to its image, dB",
        "higher",
        "reference",
        1,
        lambda seen: fidelity.psnr(seen.first, seen.reference),
        "blur",
    ),
    "ssim": Metric(
        "SSIM of the first frame to its image",
        "higher",
        "reference",
        1,
        lambda seen: fidelity.ssim(seen.first, seen.reference),
        "plain backgrounds, loss of contrast",
    ),
    "motion_score": Metric(
        "motion score, squared pixels",
        "",
        "",
        2,
        lambda seen: motion.motion_score(seen.video),
        "flicker, noise, a moving camera",
    ),
    "dynamic_degree": Metric(
        "dynamic degree, share of videos that move",
        "higher",
        "",
        2,
        lambda seen: motion.dynamic_degree(seen.flows, seen.video.fps),
        "a moving camera, flicker; misses small objects",
    ),
    "motion_smoothness": Metric(
        "motion smoothness",
        "higher",
        "",
        3,
        lambda seen: motion.motion_smoothness(seen.frames),
        "static videos, which score 1",
    ),
    "warp_error": Metric(
        "warp error, 1e-4",
        "lower",
        "",
        2,
        lambda seen: 1e4 * motion.warp_error(seen.frames, seen.flows),
        "static and blurred videos, which score low",
    ),
    "temporal_stability": Metric(
        "temporal stability (VBench's flickering)",
        "",
        "",
        2,
        lambda seen: stability.temporal_stability(seen.frames),
        "static videos, which score 1; motion lowers it",
    ),
    "colour_drift": Metric(
        "colour drift, of 255",
        "lower",
        "",
        2,
        lambda seen: stability.colour_drift(seen.frames),
        "objects that enter or leave",
    ),
    "background_drift": Metric(
        "background drift, of 255",
        "lower",
        "",
        2,
        lambda seen: stability.background_drift(seen.frames),
        "a moving camera",
    ),
    "sharpness_ratio": Metric(
        "sharpness of later frames over the first",
        "",
        "",
        2,
        lambda seen: stability.sharpness_ratio(seen.frames),
        "noise and flicker, which raise it; objects that leave lower it",
    ),
    "frame_consistency": Metric(
        "frame consistency",
        "higher",
        "image",
        2,
        lambda seen: embeddings.frame_consistency(seen.embedded),
        "static videos",
    ),
    "image_similarity": Metric(
        "similarity to the image",
        "higher",
        "image and reference",
        1,
        lambda seen: embeddings.image_similarity(seen.embedded, seen.encoders.image(seen.reference[None])[0]),  # type: ignore
        "static videos, which score best",
    ),
    "text_alignment": Metric(
        "text alignment",
        "higher",
        "text",
        1,
        lambda seen: embeddings.text_alignment(seen.embedded, seen.encoders.text(seen.prompt)),  # type: ignore
        "single frames that show all words; blind to direction",
    ),
    "subject_consistency": Metric(
        "subject consistency",
        "higher",
        "subject",
        2,
        lambda seen: embeddings.subject_consistency(seen.encoders.subject(seen.frames)),  # type: ignore
        "static videos",
    ),
}

SCORERS = tuple(
    Path(str(module.__file__)) for module in (embeddings, fidelity, motion, stability, videos, between, flow, warp)
)


NEEDS = {
    "": "",
    "reference": "conditioning image",
    "image": "CLIP",
    "image and reference": "CLIP, conditioning image",
    "text": "CLIP, prompt",
    "subject": "DINOv2",
}


def metrics_table() -> str:
    """Return the table of docs/evaluation.md."""
    rows = [(m.title, m.better or "neither", NEEDS[m.needs] or "nothing", m.fooled_by) for m in METRICS.values()]
    return markdown(("metric", "better", "needs", "fooled by"), rows)


def score(seen: Seen) -> dict[str, float]:
    """Return the value of each metric that can be measured for this video."""
    measured = {}
    for name, metric in METRICS.items():
        if len(seen.frames) >= metric.frames and seen.has(metric.needs):
            measured[name] = float(f"{metric.measure(seen):.6g}")
    return measured


def read_reference(path: Path, like: Video) -> np.ndarray:
    """Return a conditioning image scaled to the size of the video. It is cropped to the middle if the shapes differ."""
    try:
        picture = pictures.decode(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    height, width = like.frames.shape[1:3]
    scale = max(height / picture.shape[0], width / picture.shape[1])
    size = (max(height, round(picture.shape[0] * scale)), max(width, round(picture.shape[1] * scale)))
    large = videos.resized(picture[None], *size)[0]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return large[top : top + height, left : left + width]


def first_frame(clip: Clip, video: Video) -> np.ndarray:
    """Return the first frame and, if there is one, the conditioning image at its size; uint8 [1 or 2, H, W, 3]."""
    first = video.frames[:1]
    return np.concatenate([first, read_reference(clip.reference, video)[None]]) if clip.reference else first


def score_all(matched: Sequence[Sequence[Clip]], folder: Path, encoders: Encoders) -> tuple[dict, dict[str, str]]:
    """Score the clips of each name in a common form, and write each as mp4 for the report.

    Scores in scores.jsonl of `folder` are reused while files, metrics and encoders are unchanged.

    Returns:
        (arm, name) -> {"metrics", "form", "measured as", "file"}, and name -> reason for names whose files are
        unreadable. file: path of the mp4 in `folder`. Its name has the key of the scores, because the common form of a
        video changes with the arms that it is compared with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results = Results(folder / "scores.jsonl", [*SCORERS, Path(__file__)], encoders=encoders.key)
    scores, unreadable = {}, {}
    for number, clips in enumerate(matched, 1):
        try:
            key = hashlib.sha256("".join(map(_stamp, clips)).encode()).hexdigest()[:16]
            shown = [folder / "report" / clip.arm / f"{clip.name}.{key}.mp4" for clip in clips]
            if key not in results or not all(path.exists() for path in shown):
                with disk_full_named(folder):
                    results.add(key, _score_clips(clips, shown, encoders))
                print(f"{number} of {len(matched)} scored", flush=True)
        except (ValueError, OSError) as error:
            unreadable[clips[0].name] = str(error)
            print(f"{clips[0].name} is left out: {error}", flush=True)
            continue
        for clip, path in zip(clips, shown, strict=True):
            file = path.relative_to(folder).as_posix()
            scores[clip.arm, clip.name] = {**results.rows[key]["arms"][clip.arm], "file": file}
    _remove_others(folder, {row["file"] for row in scores.values()})
    return scores, unreadable


def _remove_others(folder: Path, shown: Collection[str]) -> None:
    """Delete the mp4 files of earlier reports in `folder`."""
    for path in (folder / "report").glob("*/*.mp4"):
        if path.relative_to(folder).as_posix() not in shown:
            path.unlink()


def _score_clips(clips: Sequence[Clip], shown: Sequence[Path], encoders: Encoders) -> dict:
    read = [videos.read(clip.path) for clip in clips]
    common = videos.in_common(read)
    begins = videos.in_one_size([first_frame(clip, video) for clip, video in zip(clips, read, strict=True)])
    arms = {}
    for clip, original, video, begin, path in zip(clips, read, common, begins, shown, strict=True):
        videos.write_mp4(path, video)
        reference = begin[1] if clip.reference else None
        measured = score(Seen(video, begin[0], reference, clip.prompt, encoders))
        embedding = encoders.video(video.frames).flatten().tolist() if encoders.video else None
        arms[clip.arm] = {"metrics": measured, "form": _form(original), "measured as": _form(video)}
        if embedding is not None:
            arms[clip.arm]["embedding"] = embedding
    return {"name": clips[0].name, "arms": arms}


def _form(video: Video) -> str:
    length, height, width = video.frames.shape[:3]
    return f"{length} frames, {width} x {height}, {video.fps:.4g} fps"


def _stamp(clip: Clip) -> str:
    reference = digest(clip.reference) if clip.reference else ""
    return f"{clip.arm}\n{clip.name}\n{clip.prompt}\n{digest(clip.path)}\n{reference}\n"
