"""Makes every weight of the pocket from nothing. Stages that are done are skipped, a stage cut off goes on."""

import argparse
from pathlib import Path

from . import train_autoencoder, train_image, train_video
from .export import export_checkpoint, export_video_layers

FOLDER = Path("runs/pocket")
STAGES = (
    ("autoencoder.pt", lambda folder: train_autoencoder.train(folder, 2200, batch=32, rate=2e-3, seed=1)),
    ("image_average.pt", lambda folder: train_image.main(folder, 3600, batch=64, rate=1.2e-3, seed=2, compile=True)),
    ("video_average.pt", lambda folder: train_video.main(folder, 2500, batch=16, rate=1e-3, seed=3, compile=True)),
)


def main(folder: Path = FOLDER) -> None:
    for result, stage in STAGES:
        if (folder / result).exists():
            print(f"{folder / result} is there: stage skipped", flush=True)
        else:
            stage(folder)
    export_checkpoint(folder)
    export_video_layers(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where unfinished work is kept")
    main(**vars(parser.parse_args()))
