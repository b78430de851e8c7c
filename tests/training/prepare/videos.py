"""Small videos in many formats, made with PyAV and Pillow, and encoders that need no checkpoint."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.codec.context
import numpy as np
import PIL.Image
import torch
from emu_video.training.prepare.shards import Encoders


def moving(count: int = 16, width: int = 64, height: int = 48, speed: int = 2, seed: int = 0) -> np.ndarray:
    """uint8 RGB [count, height, width, 3]: soft blobs around one colour, moving right by `speed` pixels a frame."""
    generator = np.random.default_rng(seed)
    wide = width + speed * count
    coarse = generator.integers(40, 216, 3) + generator.integers(-50, 50, (height // 16 + 2, wide // 16 + 2, 3))
    picture = PIL.Image.fromarray(coarse.clip(0, 255).astype(np.uint8))
    picture = np.asarray(picture.resize((wide, height), PIL.Image.Resampling.BICUBIC))
    return np.stack([picture[:, speed * (count - i) : speed * (count - i) + width] for i in range(count)])


def quarters(count: int = 16, width: int = 64, height: int = 48) -> np.ndarray:
    """Frames whose upper left quarter is red, upper right green, lower left blue, lower right white."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[:, : height // 2, : width // 2] = 255, 0, 0
    frames[:, : height // 2, width // 2 :] = 0, 255, 0
    frames[:, height // 2 :, : width // 2] = 0, 0, 255
    frames[:, height // 2 :, width // 2 :] = 255, 255, 255
    return frames


def write(
    path: Path,
    frames: np.ndarray,
    *,
    fps: float = 8,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times: list[int] | None = None,
    rotation: int = 0,
    aspect: Fraction | None = None,
    interlaced: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """Write frames uint8 [T, h, w, 3 or 4]. times: of each frame in milliseconds, for a variable frame rate."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options or {})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pixels
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
            stream.sample_aspect_ratio = aspect
        if interlaced:
            stream.codec_context.flags |= av.codec.context.Flags.interlaced_dct | av.codec.context.Flags.interlaced_me
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for number, pixels_of_frame in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(pixels_of_frame), "rgba" if frames.shape[3] == 4 else "rgb24"
            )
            if times:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def animate(path: Path, frames: np.ndarray, milliseconds: int | list[int] = 125) -> Path:
    """An animated gif or webp."""
    first, *rest = [PIL.Image.fromarray(frame) for frame in frames]
    path.parent.mkdir(parents=True, exist_ok=True)
    first.save(path, save_all=True, append_images=rest, duration=milliseconds, loop=0, lossless=True, disposal=2)
    return path


def sound(path: Path) -> Path:
    """A file of one second of silence, without a picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        for _ in range(43):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate = 44100
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def encoders(**changes: Any) -> Encoders:
    """Encoders of 4 x 4 pixels to a latent, whose texts are twice the letters of a caption."""

    def frames(pictures: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(pictures.movedim(-1, 1) * 2 - 1, 4)

    def text(caption: str) -> dict[str, torch.Tensor]:
        words = windows(caption)
        letters = [ord(letter) / 128 for letter in caption.ljust(8 * words)][: 8 * words]
        return {"text": torch.tensor(letters)[:, None].repeat(1, 3), "pooled": torch.full((5,), len(caption) / 100)}

    def windows(caption: str) -> int:
        return max(1, -(-len(caption) // 8))

    known: dict[str, Any] = {"frames": frames, "text": text, "windows": windows, "ratio": 4, "channels": 3}
    identity: dict[str, Any] = {"identity": {"vae": "boxes"}, "base": {"name": "pocket", "hash": "0"}}
    return Encoders(**{**known, **identity, **changes})
