"""Draws the loss of every stage, from the logs that training wrote, as one picture."""

import csv
from pathlib import Path

import cv2
import numpy as np

STAGES = ("autoencoder", "text", "image", "video", "interpolation")
COLUMNS = 3
PICTURE = Path(__file__).parents[1] / "losses.png"
WIDTH, HEIGHT, MARGIN = 420, 260, 48
INK, GRID, LINE = (40, 40, 40), (215, 215, 215), (180, 90, 20)


def read_log(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(steps, losses) of a log; of a step that was logged twice, by a resumed run, the later line."""
    with path.open() as file:
        losses = {int(row["step"]): float(row["loss"]) for row in csv.DictReader(file)}
    steps = sorted(losses)
    return np.array(steps), np.array([losses[step] for step in steps])


def panel(title: str, steps: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """uint8 [HEIGHT, WIDTH, 3], BGR: the loss on a logarithmic axis over the iterations."""
    picture = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    low, high = np.log(losses.min()), np.log(losses.max())
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    x = MARGIN + (WIDTH - MARGIN - 16) * steps / steps.max()
    y = 34 + (HEIGHT - MARGIN - 20) * (high - np.log(losses)) / (high - low)

    def write(text: str, at: tuple[int, int], size: float = 0.4) -> None:
        cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, INK, 1, cv2.LINE_AA)

    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        level = int(34 + (HEIGHT - MARGIN - 20) * share)
        cv2.line(picture, (MARGIN, level), (WIDTH - 16, level), GRID, 1)
        write(f"{np.exp(high - share * (high - low)):.2f}", (8, level + 4))
        write(f"{share * steps.max():.0f}", (int(MARGIN + (WIDTH - MARGIN - 46) * share), HEIGHT - 6))
    cv2.polylines(picture, [np.stack([x, y], 1).round().astype(np.int32)], False, LINE, 1, cv2.LINE_AA)
    write(f"{title}: loss over iterations", (MARGIN, 20), 0.45)
    return picture


def draw(folder: Path, picture: Path = PICTURE) -> None:
    panels = [panel(name, *read_log(folder / f"{name}.csv")) for name in STAGES]
    panels += [np.full_like(panels[0], 255)] * (-len(panels) % COLUMNS)
    rows = [np.concatenate(panels[i : i + COLUMNS], 1) for i in range(0, len(panels), COLUMNS)]
    cv2.imwrite(str(picture), np.concatenate(rows))
