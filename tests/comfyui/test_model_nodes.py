"""docs/compatibility_of_nodes.md against the installed ComfyUI: complete, and true for the nodes that run on their own.

A video MODEL of zero terminal SNR with layers that change nothing must give the plain MODEL's frames behind a node.
"""

from __future__ import annotations

import re

import pytest
import torch
from emu_video.host.cfg_hooks import NOISE_OVER_SIGNAL, ONE_LATENT
from emu_video.launcher.environment import ROOT
from emu_video.nodes.sampling import EmuVideoSampler
from emu_video.tests.comfyui import tiny
from emu_video.tests.comfyui.core_nodes import call, calls, model_to_model

FRAMES, LATENT = tiny.FRAMES, (4, 16, 16)
TABLE = dict(re.findall(r"^\| `(.+?)` \| (.+?) \|", (ROOT / "docs/compatibility_of_nodes.md").read_text(), re.M))
FILES = ("Lora", "Hypernetwork", "ModelMerge", "MultiGPU", "TorchCompile", "SelectModel")  # covered in features.py
STRONG = {  # arguments with which a node has an effect on two steps of a small network
    "PatchModelAddDownscale": {"block_number": 2, "start_percent": 0.0, "end_percent": 1.0},
    "CFGOverride": {"cfg": 5.0},
    "EasyCache": {"reuse_threshold": 0.0},
    "LazyCache": {"reuse_threshold": 0.0},
    "TemporalScoreRescaling": {"tsr_k": 0.5},
    "UNetSelfAttentionMultiply": {"q": 1.5},
    "UNetCrossAttentionMultiply": {"q": 1.5},
    "HyperTile": {"tile_size": 32, "max_depth": 3},
    "TomePatchModel": {"ratio": 0.5},
    "FreSca": {"scale_high": 1.5, "freq_cutoff": 2},
    "APG": {"norm_threshold": 1.0},
    "RenormCFG": {"renorm_cfg": 0.5},
    "ContextWindowsManual": {"context_length": 3, "context_overlap": 1, "causal_window_fix": False},
}
NO_EFFECT = ("ModelComputeDtype", "EasyCache", "LazyCache", "DifferentialDiffusion", "TomePatchModel", "HyperTile")
GUIDANCE = [
    "APG", "CFGNorm", "CFGOverride", "CFGZeroStar", "FreSca", "LatentApplyOperationCFG", "Mahiro", "NAGuidance",
    "PerturbedAttentionGuidance", "RenormCFG", "RescaleCFG", "TCFG", "TemporalScoreRescaling",
    "VideoLinearCFGGuidance", "VideoTriangleCFGGuidance",
]  # fmt: skip


def rows(*results: str) -> list[str]:
    return [name for name, result in TABLE.items() if result in results and not name.startswith(FILES)]


def behind(name, model):
    sharpen = call("LatentOperationSharpen", next(calls("LatentOperationSharpen", sharpen_radius=2)))
    given = {"CONDITIONING": tiny.text(6), "LATENT_OPERATION": sharpen}
    arguments = next(calls(name, **{**given, "MODEL": model, **STRONG.get(name, {})}))
    if name == "ModelComputeDtype":
        arguments["dtype"] = "fp32"
    return call(name, arguments)


def noise():
    return torch.randn((FRAMES, *LATENT), generator=torch.Generator().manual_seed(3))


def frames(model, steps=2):
    return tiny.sample(model, noise=noise(), steps=steps)


def emu(model, text=4.0, image=4.0):
    known = tiny.first_frame_known(latent=LATENT)
    negative = tiny.text(2, known_frames=torch.zeros_like(known))
    conds = tiny.text(1, known_frames=known), tiny.text(2, known_frames=known), negative
    latent = {"samples": torch.zeros(FRAMES, *LATENT)}
    return EmuVideoSampler.execute(model, *conds, latent, 0, 2, text, image, 0.0, 0.0).args[0]["samples"]


@pytest.fixture
def models(model):
    """(plain MODEL at the video's schedule, with layers that change nothing, with random ones)"""
    fresh, trained = (tiny.with_temporal_layers(model, fresh=fresh) for fresh in (True, False))
    plain = model.clone()
    plain.add_object_patch("model_sampling", fresh.get_model_object("model_sampling"))
    return plain, fresh, trained


def test_table_is_complete():
    missing = sorted(set(model_to_model()) - TABLE.keys())
    assert not missing, f"docs/compatibility_of_nodes.md has no row for {missing}: try them and add their results."
    assert set(TABLE.values()) == {
        "works",
        "works after",
        "works with KSampler",
        "refused",
        "refused at zero SNR",
        "other models",
    }


@pytest.mark.parametrize("name", rows("works", "works after", "works with KSampler"))
def test_right(models, name):
    plain, fresh, trained = models
    if name in NOISE_OVER_SIGNAL + ONE_LATENT:  # without the guards wrong, or an error: test_guidance_hooks.py
        plain = fresh
    before = tiny.weights_hash(plain)
    assert torch.equal(frames(behind(name, fresh)), frames(behind(name, plain)))
    video = frames(behind(name, trained))
    assert video.isfinite().all() and not torch.allclose(video, frames(behind(name, plain)), atol=1e-3)
    if name not in NO_EFFECT:
        assert not torch.allclose(video, frames(trained), atol=1e-4)
    del video
    assert tiny.weights_hash(plain) == before


@pytest.mark.parametrize("name", rows("works after"))
def test_refused_before_the_layers(model, name):
    with pytest.raises(ValueError, match=f"{name} uses the checkpoint's noise schedule.*behind Load Temporal Layers"):
        tiny.with_temporal_layers(behind(name, model))


@pytest.mark.parametrize("name", rows("refused", "refused at zero SNR"))
def test_refused(models, name):
    try:
        patched = behind(name, models[2])
    except Exception:  # of the node itself, on a Stable Diffusion model
        return
    with pytest.raises(ValueError, match="behind Load Temporal Layers|does not work with zero terminal SNR|dim 0"):
        frames(patched)


@pytest.mark.parametrize("name", GUIDANCE)
def test_guidance_with_equal_weights_is_that_of_ksampler(models, name):
    """Equation 1 with equal weights is stock guidance, and so is every guidance node on it."""
    video = behind(name, models[2])
    known = tiny.first_frame_known(latent=LATENT)
    negative = tiny.text(2, known_frames=torch.zeros_like(known))
    options = {"cfg": 4.0, "positive": tiny.text(1, known_frames=known), "negative": negative, "steps": 2}
    start = torch.randn((FRAMES, *LATENT), generator=torch.manual_seed(0))
    stock = tiny.sample(video, noise=start, seed=0, **options)
    if name != "NAGuidance":  # whose negative is image_only
        image = STRONG["CFGOverride"]["cfg"] if name == "CFGOverride" else 4.0
        torch.testing.assert_close(emu(video, image=image), stock, atol=2e-2, rtol=1e-3)
    other = emu(video, 7.5, 2.0)
    assert other.isfinite().all() and not torch.allclose(other, emu(models[2], 7.5, 2.0), atol=1e-3)


def test_perp_neg_is_refused_with_three_conditionings(models):
    with pytest.raises(ValueError, match="PerpNeg does not work with this guider"):
        emu(behind("PerpNeg", models[2]))
