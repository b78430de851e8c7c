"""Amount and smoothness of motion."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise

import av
import numpy as np
import torch
from torch import Tensor

from ...optical_flow.between import frames_between
from ...optical_flow.flow import Flow, estimate
from ...optical_flow.warp import warp
from .. import videos
from ..videos import Video

RATE = 8.0
"""Frames a second at which displacements are stated, as in VBench."""

SHORT_SIDE = 256
"""Pixels of the shorter side at which displacements are stated."""

X264 = {
    "crf": "18",
    "bf": "0",
    "refs": "1",
    "g": "100000",
    "sc_threshold": "0",
    "threads": "1",
    "x264-params": "weightp=0:mbtree=0",
}
"""Options that predict every frame from the previous one, so that vectors are displacements between neighbours."""


def flows(frames: np.ndarray) -> list[Flow]:
    """Return the optical flow between neighbours of frames [T, H, W, 3]: T - 1 flows, in pixels."""
    tensors = as_batches(frames)
    return [estimate(one, other) for one, other in pairwise(tensors)]


def as_batches(frames: np.ndarray) -> list[Tensor]:
    """Return frames [T, H, W, 3] of uint8 as a list of [1, 3, H, W] in 0..1."""
    return list((torch.from_numpy(frames).float() / 255).movedim(-1, 1)[:, None])


def motion_vectors(video: Video) -> list[np.ndarray]:
    """Return the motion vectors of each frame after the first, [n, 3]: area of the block, x and y in pixels.

    The video is encoded as H.264 with a shorter side of 256 pixels. Blocks without a vector are missing.
    """
    height, width = video.frames.shape[1:3]
    scale = SHORT_SIDE / min(height, width)
    size = (round(side * scale / 16) * 16 for side in (height, width))
    content = videos.encode(Video(videos.resized(video.frames, *size), RATE), "matroska", "libx264", "yuv420p", X264)
    vectors = []
    with av.open(BytesIO(content)) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"flags2": "+export_mvs"}
        for frame in container.decode(stream):
            found = [side for side in frame.side_data if side.type.name == "MOTION_VECTORS"]
            data = found[0].to_ndarray() if found else None
            if data is None:
                vectors.append(np.zeros((0, 3)))
                continue
            scale = data["motion_scale"].astype(float)
            area = data["w"].astype(float) * data["h"]
            vectors.append(np.stack([area, data["motion_x"] / scale, data["motion_y"] / scale], 1))
    return vectors[1:]


def motion_score(video: Video) -> float:
    """Return the mean energy of H.264 motion vectors, in squared pixels of a 256-pixel picture at 8 frames a second.

    0 means no motion. This is the paper's measure of motion (section 4.1 and appendix), but the paper does not state
    its size and rate: compare only values measured here. It is fooled by flicker and noise, whose blocks match at
    random, and by a moving camera.
    """
    if len(video.frames) < 2:
        raise ValueError("Motion needs a video of at least 2 frames.")
    height, width = video.frames.shape[1:3]
    scale = SHORT_SIDE / min(height, width)
    total = round(height * scale / 16) * round(width * scale / 16) * 256
    energies = [float((v[:, 0] * (v[:, 1] ** 2 + v[:, 2] ** 2)).sum()) / total for v in motion_vectors(video)]
    return float(np.mean(energies)) * (video.fps / RATE) ** 2


def dynamic_degree(found: Sequence[Flow], fps: float) -> float:
    """Return 1 if the video moves visibly, otherwise 0.

    A video moves if the fastest 5 % of the pixels move by more than 6 pixels of a 256-pixel picture, at 8 frames a
    second, in a quarter of the pairs of neighbours (VBench, with DIS flow instead of RAFT). It is fooled by a moving
    camera and by flicker of large areas; an object below 5 % of the picture counts only by its share.
    """
    fast = 0
    for flow in found:
        speed = flow.forward.square().sum(1).sqrt().flatten() * fps / RATE
        top = speed.topk(max(1, int(0.05 * len(speed)))).values.mean()
        fast += float(top) > 6 * min(flow.forward.shape[2:]) / SHORT_SIDE
    return float(fast >= max(1, round(4 * (len(found) + 1) / 16)))


def motion_smoothness(frames: np.ndarray) -> float:
    """Return how well every other frame is predicted from its neighbours, 0..1; higher is smoother.

    The value is 1 - the mean absolute error of frames made by optical flow (VBench uses AMT instead of flow). It is
    fooled by static videos, which score 1: compare it together with the motion score.
    """
    if len(frames) < 3:
        raise ValueError("Motion smoothness needs a video of at least 3 frames.")
    video = torch.from_numpy(frames[: len(frames) // 2 * 2 - 1 + len(frames) % 2 * 2]).float() / 255
    predicted = torch.stack(list(frames_between(video[::2], 2)))
    return 1 - float((predicted - video[1::2][: len(predicted)]).abs().mean())


def warp_error(frames: np.ndarray, found: Sequence[Flow]) -> float:
    """Return the mean squared difference of neighbours along the flow, in 0..1; lower is more consistent.

    Only pixels that both frames show count (Lai et al., "Learning Blind Video Temporal Consistency", 2018). It is
    fooled by static videos, which score 0, and by blur. Objects that appear or vanish hardly count, because they look
    like occlusions.
    """
    tensors = as_batches(frames)
    errors = []
    for first, second, flow in zip(tensors[:-1], tensors[1:], found, strict=True):
        seen = flow.first_seen > 0.5
        difference = (first - warp(second, flow.forward)).square().mean(1, keepdim=True)
        if seen.any():
            errors.append(float(difference[seen].mean()))
    return float(np.mean(errors)) if errors else 1.0
