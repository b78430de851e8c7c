"""Pictures as arrays, uint8 [height, width, 3], RGB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np


def decode(content: bytes) -> np.ndarray:
    """Decode the bytes of an image file.

    Raises:
        ValueError: it is not an image.
    """
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB) if content else None
    if picture is None:
        raise ValueError(f"The server sent {len(content)} bytes that are not an image.")
    return picture


def decode_all(contents: Sequence[bytes]) -> np.ndarray:
    """Decode image files of the same size to uint8 [n, height, width, 3]."""
    return np.stack([decode(content) for content in contents])


def encode(picture: np.ndarray) -> bytes:
    """Return the content of a PNG file."""
    return cv2.imencode(".png", picture[:, :, ::-1])[1].tobytes()


def write_sheet(path: Path, strips: Sequence[np.ndarray]) -> None:
    """Write strips, each [height, width, 3], below each other; narrower ones are padded with black."""
    width = max(strip.shape[1] for strip in strips)
    padded = [np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0))) for strip in strips]
    path.write_bytes(encode(np.concatenate(padded)))
