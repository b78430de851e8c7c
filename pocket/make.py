"""Train all weights of the pocket by its recipe. Finished stages are skipped; an interrupted stage is resumed.

All results stay in --folder; `python run.py pocket export` writes them as the files of the package.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from ..training.log import curves, read_rows, save_picture
from .recipe import RECIPES
from .stages import autoencoder, image, layers, text
from .stages.run import FOLDER, IMAGE_STAGES, STAGES, Run

MAKERS = {
    "autoencoder": autoencoder.make,
    "text": text.make,
    "image": image.make,
    **{name: partial(layers.make, name=name) for name in STAGES if name not in IMAGE_STAGES},
}


def make(run: Run, until: str = STAGES[-1]) -> None:
    """Train the stages of a run up to and including `until`."""
    for stage in run.stages:
        if STAGES.index(stage) > STAGES.index(until):
            break
        if run.is_done(stage):
            print(f"{stage}: done, {run.path(stage)}", flush=True)
        else:
            print(f"{stage}: starting", flush=True)
            MAKERS[stage](run)
            rows = read_rows(run.folder / f"{run.name(stage)}.csv")
            save_picture(run.folder / f"{run.name(stage)}.png", curves(rows, ("loss",)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", choices=RECIPES, default="second", help="a recipe of pocket/recipe.py")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder of all files of this run")
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1], help="the last stage to train")
    parser.add_argument(
        "--checkpoint", type=Path, help="take autoencoder, text encoder and image model from this pocket checkpoint"
    )
    options = parser.parse_args()
    make(Run(options.folder, RECIPES[options.recipe], options.checkpoint), options.until)


if __name__ == "__main__":
    main()
