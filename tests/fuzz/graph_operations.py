"""Random operations on MODELs: layers, LoRAs, patches, clones, sampling, failures and freeing, in any order.

After each case the checkpoint's weights and the image that it makes are bit for bit those from before.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from emu_video.tests.fuzz import comfyui

OPERATIONS = 12
SECONDS = 60
MEMORY = 3 * 2**30


class Corpus(NamedTuple):
    """checkpoint: a MODEL. weights: its hash. image: what it makes."""

    checkpoint: Any
    weights: str
    image: torch.Tensor


class Stopped(Exception):
    """A user's stop in the middle of sampling."""


def corpus(folder: Path) -> Corpus:
    comfyui.start(folder)
    from emu_video.tests.comfyui import tiny

    with torch.inference_mode():
        checkpoint = tiny.checkpoint()
        return Corpus(checkpoint, tiny.weights_hash(checkpoint), tiny.sample(checkpoint, frames=1, steps=1))


def run(corpus: Corpus, random: Random, folder: Path) -> str:
    """Run one case on a pool of MODELs that starts with the checkpoint."""
    with torch.inference_mode():
        pool = [corpus.checkpoint]
        refused = 0
        for _ in range(OPERATIONS):
            operation = random.choice(list(_operations().values()))
            try:
                made = operation(random.choice(pool), random)
            except (ValueError, Stopped):
                refused += 1
                made = None
            if made is not None:
                pool.append(made)
            if len(pool) > 1 and random.random() < 0.25:
                pool.pop(random.randrange(1, len(pool)))
                if random.random() < 0.5:
                    gc.collect()
        _check(corpus)
    return "refused" if refused == OPERATIONS else "ok"


def _check(corpus: Corpus) -> None:
    import comfy.model_management
    from emu_video.tests.comfyui import tiny

    image = tiny.sample(corpus.checkpoint, frames=1, steps=1)
    assert torch.equal(image, corpus.image), "the checkpoint makes another image"
    comfy.model_management.unload_all_models()
    assert tiny.weights_hash(corpus.checkpoint) == corpus.weights, "the checkpoint's weights changed"


def _operations() -> dict[str, Callable[[Any, Random], Any]]:
    """Return name -> function of a MODEL that gives another MODEL, or None."""
    import comfy.model_management
    import comfy.sd
    from comfy_extras.nodes_freelunch import FreeU_V2
    from comfy_extras.nodes_model_advanced import RescaleCFG
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance
    from emu_video.host.layer_settings import with_strength
    from emu_video.nodes.sampling import EmuVideoSampler, ZeroTerminalSNRSchedule
    from emu_video.tests.comfyui import tiny

    def lora(model: Any, random: Random) -> Any:
        return comfy.sd.load_lora_for_models(model, None, tiny.lora_file(model), random.uniform(-1, 1), 0)[0]

    def sample(model: Any, random: Random) -> None:
        result = tiny.sample(model, frames=random.choice((1, 2, 4, 5)), steps=1, cfg=random.choice((1.0, 3.0)))
        assert result.isfinite().all(), "the video has values that are not finite"

    def sample_three(model: Any, random: Random) -> None:
        known = tiny.first_frame_known()
        null = tiny.text(2, known_frames=known), tiny.text(2, known_frames=torch.zeros_like(known))
        latent = {"samples": torch.zeros(tiny.FRAMES, *tiny.LATENT)}
        weights = random.choice(((7.5, 2.0), (2.0, 1.0), (1.0, 1.0), (0.0, 3.0)))
        conds = tiny.text(1, known_frames=known), *null
        EmuVideoSampler.execute(model, *conds, latent, random.getrandbits(64), 1, *weights, 0.3, random.random())

    def stop(model: Any, random: Random) -> None:
        def callback(*_: Any) -> None:
            raise Stopped

        tiny.sample(model, steps=2, callback=callback)

    def free(model: Any, random: Random) -> None:
        comfy.model_management.unload_all_models()

    return {
        "load": lambda model, random: tiny.with_temporal_layers(model, seed=random.randrange(9)),
        "load for several videos": lambda model, random: tiny.with_temporal_layers(model, frames=random.choice((2, 4))),
        "load fresh": lambda model, random: tiny.with_temporal_layers(model, fresh=True),
        "clone": lambda model, random: model.clone(),
        "LoRA": lora,
        "strength": lambda model, random: with_strength(model, random.random(), random.random(), start=random.random()),
        "windows": lambda model, random: tiny.in_windows(model, random.choice((2, 3)), 1, causal=random.random() < 0.5),
        "schedule": lambda model, random: ZeroTerminalSNRSchedule.execute(model, "auto", random.random() < 0.5).args[0],
        "FreeU": lambda model, random: FreeU_V2.execute(model, 1.3, 1.4, 0.9, 0.2).result[0],
        "PAG": lambda model, random: PerturbedAttentionGuidance.execute(model, 3.0).result[0],
        "RescaleCFG": lambda model, random: RescaleCFG().patch(model, 0.7)[0],
        "sample": sample,
        "sample with three conditionings": sample_three,
        "stop": stop,
        "free": free,
    }
