"""Read and write video files; frames are uint8 [T, H, W, 3], RGB."""

from __future__ import annotations

from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.error import FFmpegError

from ..training.checkpoint import written_whole

SUFFIXES = ".mp4", ".webm", ".mkv", ".mov", ".avi", ".gif"
MOST_BYTES = 4 * 2**30
"""Bytes of decoded frames above which a video is refused, because they would not fit into memory."""


class Video(NamedTuple):
    """frames: uint8 [T, H, W, 3], RGB. fps: frames a second."""

    frames: np.ndarray
    fps: float


def read(file: Path | BytesIO) -> Video:
    """Decode a video file.

    Raises:
        ValueError: the file is not a video, is damaged, or its frames do not fit into memory.
    """
    name = str(file) if isinstance(file, Path) else "what the server sent"
    frames: list[np.ndarray] = []
    try:
        with av.open(str(file) if isinstance(file, Path) else file) as container:
            if not container.streams.video:
                raise ValueError(f"{name} has no video stream. Remove it from the folder.")
            stream = container.streams.video[0]
            for frame in container.decode(stream):
                frames.append(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))
                if len(frames) * frames[0].nbytes > MOST_BYTES:
                    raise ValueError(f"{name} is too long: its frames need more than {MOST_BYTES >> 30} GiB. Cut it.")
            fps = float(stream.average_rate or stream.guessed_rate or 0)
    except (FFmpegError, OSError) as error:
        raise ValueError(f"{name} cannot be read as a video: {error}") from error
    if not frames:
        raise ValueError(f"{name} has no frames.")
    if any(frame.shape != frames[0].shape for frame in frames):
        raise ValueError(f"{name} changes its frame size, which no metric supports. Encode it at one size.")
    return Video(np.stack(frames), fps or 1.0)


def write_lossless(path: Path, video: Video) -> None:
    """Write FFV1 in Matroska: every pixel comes back as it is."""
    _write(path, video, container="matroska", codec="ffv1", pixels="bgr0", options={})


def write_mp4(path: Path, video: Video) -> None:
    """Write H.264 that every browser plays. If a size is odd, the last row or column is repeated."""
    height, width = video.frames.shape[1:3]
    even = np.pad(video.frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), "edge")
    _write(path, Video(even, video.fps), container="mp4", codec="libx264", pixels="yuv420p", options={"crf": "12"})


def encode(video: Video, container: str, codec: str, pixels: str, options: dict[str, str]) -> bytes:
    """Return the content of a video file."""
    height, width = video.frames.shape[1:3]
    buffer = BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=Fraction(video.fps).limit_denominator(1001), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        for picture in video.frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def _write(path: Path, video: Video, *, container: str, codec: str, pixels: str, options: dict[str, str]) -> None:
    content = encode(video, container, codec, pixels, options)
    with written_whole(path) as unfinished:
        unfinished.write_bytes(content)


def in_common(videos: list[Video]) -> list[Video]:
    """Convert videos to a common form, as the paper does before human evaluation (appendix, post-processing).

    Frame rate: the lowest, by dropping frames. Length: the shortest, around the middle. Size: cropped to a square
    around the middle if the shapes differ, then scaled to the smallest size. Videos of the same form are returned
    unchanged.
    """
    rate = min(video.fps for video in videos)
    slowed = [_at_rate(video, rate) for video in videos]
    length = min(len(video.frames) for video in slowed)
    cut = [_middle(video.frames, length, axis=0) for video in slowed]
    return [Video(frames, rate) for frames in in_one_size(cut)]


def in_one_size(videos: list[np.ndarray]) -> list[np.ndarray]:
    """Crop frames [T, H, W, 3] of several videos to squares if their shapes differ; scale them to the smallest size."""
    if len({_aspect(frames) for frames in videos}) > 1:
        sides = [min(frames.shape[1:3]) for frames in videos]
        videos = [_middle(_middle(f, side, 1), side, 2) for f, side in zip(videos, sides, strict=True)]
    height, width = min((frames.shape[1:3] for frames in videos), key=lambda size: size[0] * size[1])
    return [resized(frames, height, width) for frames in videos]


def resized(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale frames, averaging areas where they get smaller."""
    if frames.shape[1:3] == (height, width):
        return frames
    how = cv2.INTER_AREA if height < frames.shape[1] else cv2.INTER_LINEAR
    return np.stack([cv2.resize(frame, (width, height), interpolation=how) for frame in frames])


def _at_rate(video: Video, rate: float) -> Video:
    if abs(video.fps - rate) < 1e-3:
        return video
    count = max(1, round(len(video.frames) * rate / video.fps))
    times = np.arange(count) * video.fps / rate
    picked = (times + 1e-6).astype(int).clip(max=len(video.frames) - 1)  # 1e-6: rates are rounded
    return Video(video.frames[picked], rate)


def _middle(frames: np.ndarray, size: int, axis: int) -> np.ndarray:
    start = (frames.shape[axis] - size) // 2
    return frames.take(range(start, start + size), axis)


def _aspect(frames: np.ndarray) -> float:
    return round(frames.shape[2] / frames.shape[1], 2)
