"""Train all weights of the pocket by its recipe. Finished stages are skipped; an interrupted stage is resumed.

All results stay in --folder; `python run.py pocket export` writes them as the files of the package.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from ..training.log import curves, read_rows, save_picture
from .recipe import RECIPE, AutoencoderStage, DecoderStage, ImageStage, LayersStage, TextStage
from .stages import autoencoder, decoder, image, layers, text
from .stages.run import FOLDER, Run

MAKERS = {
    AutoencoderStage: autoencoder.make,
    DecoderStage: decoder.make,
    TextStage: text.make,
    ImageStage: image.make,
    LayersStage: layers.make,
}


def make(run: Run, until: str = "") -> None:
    """Train the stages of a run up to and including `until`, or all."""
    torch.backends.cudnn.benchmark = True  # convolutions of few shapes, many times
    for stage in run.needed:
        if run.is_done(stage):
            print(f"{stage}: done, {run.path(stage)}", flush=True)
        else:
            print(f"{stage}: starting", flush=True)
            MAKERS[type(run.recipe.stages[stage])](run, stage)
            rows = read_rows(run.folder / f"{run.name(stage)}.csv")
            save_picture(run.folder / f"{run.name(stage)}.png", curves(rows, ("loss",)))
        if stage == until:
            break


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder of all files of this run")
    parser.add_argument("--until", choices=RECIPE.stages, default="", help="the last stage to train")
    parser.add_argument(
        "--checkpoint", type=Path, help="take autoencoder, text encoder and image model from this pocket checkpoint"
    )
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu (default: a GPU if any)"
    )
    options = parser.parse_args()
    make(Run(options.folder, RECIPE, options.checkpoint, options.device), options.until)


if __name__ == "__main__":
    main()
