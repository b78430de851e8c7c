"""Fingerprints of large weights: float32 has no number for every place of a tensor above 2^24 elements."""

import torch
from emu_video.host.fingerprint import fingerprint_of


def test_tensors_as_large_as_those_of_stable_diffusion_have_a_fingerprint():
    count = 49408 * 768  # CLIP's embedding of words
    made = [fingerprint_of({"weight": torch.full((1,), value).expand(count)}) for value in (0.0, 0.0, 1.0)]
    assert made[0] == made[1] != made[2]
