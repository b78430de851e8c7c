"""Makes every weight of the pocket from nothing. Stages that are done are skipped, a stage cut off goes on."""

import argparse
from pathlib import Path

from .evaluate import curves
from .shipped import CHECKPOINT, INTERPOLATION_LAYERS, VIDEO_LAYERS
from .stages import autoencoder, image, interpolation, text, video
from .stages.export import export_checkpoint, export_interpolation_layers, export_video_layers

FOLDER = Path("runs/pocket")
STAGES = (
    ("autoencoder.pt", lambda folder: autoencoder.main(folder, 1600, batch=32, rate=2e-3, seed=1)),
    ("text_average.pt", lambda folder: text.main(folder, 800, batch=128, rate=2e-3, seed=4)),
    ("image_average.pt", lambda folder: image.main(folder, 11000, batch=66, rate=1.2e-3, seed=2)),
    (CHECKPOINT.name, lambda folder: export_checkpoint(folder)),
    ("video_average.pt", lambda folder: video.main(folder, 14200, batch=16, rate=1e-3, seed=3)),
    (VIDEO_LAYERS.name, lambda folder: export_video_layers(folder)),
    ("interpolation_average.pt", lambda folder: interpolation.main(folder, 7500, batch=4, rate=8e-4, seed=5)),
    (INTERPOLATION_LAYERS.name, lambda folder: export_interpolation_layers(folder)),
)


def main(folder: Path = FOLDER) -> None:
    for result, stage in STAGES:
        done = folder / f"{result}.done"
        if done.exists():
            print(f"{result} is made: stage skipped", flush=True)
        else:
            stage(folder)
            done.touch()
    curves.draw(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where unfinished work is kept")
    main(**vars(parser.parse_args()))
