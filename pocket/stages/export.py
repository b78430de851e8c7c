"""Write the results of a run as files that users load: the checkpoint and its temporal layers, in half precision.

Their metadata holds the recipe. `python run.py pocket export` replaces the files in pocket/weights.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ...temporal_layers.files import load_layers, save_layers
from ..model.checkpoint import AUTOENCODER, DENOISER, SIGNATURE, UNET, VOCABULARY
from ..model.text_encoder import Vocabulary
from ..recipe import RECIPE, LayersStage
from ..shipped import WEIGHTS, checkpoint_file, layers_file
from ..world import TIMES, render_clips, sample_clips
from .run import EXPORTED, FOLDER, Run, plain, save_tensors


def export(run: Run, folder: Path = WEIGHTS) -> list[Path]:
    """Write all finished results into ComfyUI's model folders below `folder`. Returns the files."""
    written = []
    if not run.checkpoint and run.is_done("image"):
        written.append(export_checkpoint(run, folder / "checkpoints" / checkpoint_file(run.recipe.name)))
    for role in EXPORTED:
        if role in run.recipe.stages and run.is_done(role):
            path = folder / "temporal_layers" / layers_file(role, run.recipe.name)
            written.append(export_layers(run, role, path))
    return written


def export_checkpoint(run: Run, path: Path) -> Path:
    """Write UNet, text encoder with its vocabulary, and autoencoder as one checkpoint."""
    tensors = {}
    for key, tensor in run.image_model().state_dict().items():
        part, _, rest = key.partition(".")
        tensors[DENOISER[part] + rest] = tensor.half()
    for key, tensor in run.load("decoder").items():
        tensors[AUTOENCODER + key] = tensor.half()
    tensors[f"{AUTOENCODER}vae_scale"] = torch.tensor(1.0)
    tensors[f"{AUTOENCODER}vae_shift"] = torch.tensor(0.0)
    tensors[UNET + SIGNATURE] = latent_colours(run)
    tensors[VOCABULARY] = Vocabulary().to_tensor()
    stages = {name: plain(made) for name, made in run.recipe.stages.items() if not isinstance(made, LayersStage)}
    keys = {name: run.keys[name] for name in stages}
    made = {"name": run.recipe.name, "shape": plain(run.recipe.shape), "recipe": stages, "keys": keys}
    save_tensors(path, tensors, made)
    return path


@torch.no_grad()
def latent_colours(run: Run) -> Tensor:
    """Return the linear map from latents to RGB in -1..1 that ComfyUI's previews use, [C + 1, 3], bias last."""
    pictures, _ = render_clips(sample_clips(seed=21, count=64, times=TIMES[:1]))
    pictures = pictures[:, 0].float() / 255
    latents = run.autoencoder().cpu().encode(pictures)
    small = torch.nn.functional.avg_pool2d(pictures, 8) * 2 - 1
    inputs, targets = latents.movedim(1, -1).flatten(0, 2), small.movedim(1, -1).flatten(0, 2)
    return torch.linalg.lstsq(torch.cat([inputs, torch.ones(len(inputs), 1)], 1), targets).solution


def export_layers(run: Run, role: str, path: Path) -> Path:
    """Write the layers of a stage as one file of temporal layers."""
    weights, info = load_layers(run.path(role))
    made = {"stage": plain(run.recipe.stages[role]), "key": run.keys[role]}
    info = replace(info, training={**info.training, **made})
    path.parent.mkdir(parents=True, exist_ok=True)
    save_layers(path, {key: tensor.half() for key, tensor in weights.items()}, info)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the folder of the run")
    parser.add_argument("--to", type=Path, default=WEIGHTS, help="where the files go")
    options = parser.parse_args()
    for path in export(Run(options.folder, RECIPE), options.to):
        print(path)


if __name__ == "__main__":
    main()
