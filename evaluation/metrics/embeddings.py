"""Measures on embeddings of frames, of the prompt, or of whole videos, made by any encoder."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor


def frame_consistency(frames: Tensor) -> float:
    """Return the mean cosine of neighbouring frames' embeddings [T, D], up to 1; higher is more consistent.

    With CLIP, this is the paper's frame consistency (Table 3). The authors say that it favours static videos.
    """
    return float(F.cosine_similarity(frames[1:], frames[:-1], dim=-1).mean())


def subject_consistency(frames: Tensor) -> float:
    """Return the mean over frames of the cosines to the frame before and to the first one, up to 1.

    With DINO, this is VBench's subject_consistency. It is fooled by static videos.
    """
    to_first = F.cosine_similarity(frames[1:], frames[:1], dim=-1)
    return (frame_consistency(frames) + float(to_first.mean())) / 2


def image_similarity(frames: Tensor, image: Tensor) -> float:
    """Return the mean cosine of frames [T, D] to the conditioning image [D], up to 1.

    With CLIP, this is the paper's image similarity (Table 3). It is fooled by static videos, which score best.
    """
    return float(F.cosine_similarity(frames, image[None], dim=-1).mean())


def text_alignment(frames: Tensor, text: Tensor) -> float:
    """Return 100 times the mean cosine of frames [T, D] to the prompt [D]; about 20 to 40 with CLIP.

    It is fooled by single frames that show all words: it ignores direction and order, and guided samples score above
    real videos.
    """
    return 100 * float(F.cosine_similarity(frames, text[None], dim=-1).mean())


def frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Fréchet distance of two sets of video embeddings [n, D] and [m, D], from 0; FVD with I3D's logits.

    Both are taken as Gaussian. Biased upwards with few videos: compare only equal counts, thousands for D = 400.
    With I3D it is insensitive to temporal faults (Ge et al., "On the Content Bias in Fréchet Video Distance", 2024). It
    ignores captions.
    """
    one, other = _as_sets(one, other)
    mean = np.square(one.mean(0) - other.mean(0)).sum()
    first, second = (np.atleast_2d(np.cov(values, rowvar=False)) for values in (one, other))
    # The eigenvalues of the product are real and positive, but rounding may leave tiny negative or imaginary parts.
    roots = np.sqrt(np.linalg.eigvals(first @ second).real.clip(min=0))
    return float(max(0.0, mean + np.trace(first) + np.trace(second) - 2 * roots.sum()))


def polynomial_mmd(one: np.ndarray, other: np.ndarray, degree: int = 2, constant: float = 0.0) -> float:
    """Return the unbiased squared maximum mean discrepancy of two sets of embeddings [n, D] and [m, D].

    The kernel is (x·y / D + constant) ** degree. Two samples of one distribution give about 0, possibly a negative
    value. With V-JEPA and the defaults this is JEDi (Luo et al. 2024), except that JEDi is multiplied by 100 and has a
    small bias. With degree 3 and constant 1 it is the kernel of KID. It needs far fewer videos than the Fréchet
    distance and ignores captions.
    """
    one, other = _as_sets(one, other)

    def kernel(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return (left @ right.T / left.shape[1] + constant) ** degree

    def within(values: np.ndarray) -> float:
        products = kernel(values, values)
        return float((products.sum() - np.trace(products)) / (len(values) * (len(values) - 1)))

    return within(one) + within(other) - 2 * float(kernel(one, other).mean())


def _as_sets(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1]:
        raise ValueError(f"Two sets of embeddings must have one width, got {one.shape} and {other.shape}.")
    if min(len(one), len(other)) < 2:
        raise ValueError(f"A distance of two sets needs 2 videos in each, got {len(one)} and {len(other)}.")
    return one.astype(np.float64), other.astype(np.float64)
