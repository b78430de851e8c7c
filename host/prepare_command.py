"""Make a dataset from a folder of videos and captions, to train temporal layers.

Finds scene cuts, takes clips, and encodes them with the checkpoint's VAE and CLIP. Writes shards, preview videos, a
contact sheet, and a report of the files that were left out. Run the same command again to continue after a stop.
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

from . import headless

STAGES = {"scan": "videos scanned", "score": "clips scored", "encode": "clips encoded"}


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run.py prepare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, help="folder of videos, with captions as .txt of the same name, .jsonl or .csv"
    )
    parser.add_argument("--checkpoint", required=True, help="image checkpoint: a file, or a name in models/checkpoints")
    parser.add_argument("--output", type=Path, help="folder of the dataset (default: datasets/ and the folder's name)")
    parser.add_argument("--frames", type=int, default=8, help="frames per clip (default: 8)")
    parser.add_argument("--fps", type=float, default=8.0, help="frames per second of a clip (default: 8)")
    parser.add_argument("--size", type=_size, default=(512, 512), metavar="WIDTHxHEIGHT", help="default: 512x512")
    parser.add_argument("--per-video", type=int, default=0, help="clips per video, evenly spread (default: all)")
    parser.add_argument(
        "--buckets", action="store_true", help="keep the aspect ratio of each video, with at most the area of --size"
    )
    parser.add_argument(
        "--names-as-captions", action="store_true", help="use the file name as caption if a video has none"
    )
    parser.add_argument("--keep-duplicates", action="store_true", help="keep clips that look like an earlier one")
    parser.add_argument("--downscale", type=int, default=1, metavar="FACTOR", help="super-resolution factor, usually 2")
    parser.add_argument(
        "--stillest",
        type=float,
        default=0,
        metavar="PERCENT",
        help="leave out this percentage of clips: those that almost stop at some point",
    )
    parser.add_argument(
        "--clip-vision", help="CLIP vision model for the filters below: a file, or a name in models/clip_vision"
    )
    parser.add_argument(
        "--clip-text", help="its text encoder, if not the checkpoint's: a file, or a name in models/text_encoders"
    )
    parser.add_argument(
        "--least-matching",
        type=float,
        default=0,
        metavar="PERCENT",
        help="leave out this percentage of clips: those with the lowest CLIP score",
    )
    parser.add_argument("--aesthetic", help="LAION's aesthetic predictor, version 2, for CLIP ViT-L/14: a file")
    parser.add_argument(
        "--least-aesthetic",
        type=float,
        default=0,
        metavar="PERCENT",
        help="leave out this percentage of clips: those with the lowest aesthetic score",
    )
    parser.add_argument("--vae", help="VAE, if not the checkpoint's: a file, or a name in models/vae")
    return parser.parse_args(given)


def _size(words: str) -> tuple[int, int]:
    width, _, height = words.lower().partition("x")
    try:
        return int(width), int(height or width)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{words} is not a size; write, for example, 512x512") from None


def main(given: list[str] | None = None) -> None:
    args = arguments(given)
    headless.start()
    import torch

    from ..training.prepare.prepare import INDEX, REPORT, SHEET, prepare
    from ..training.prepare.settings import Settings

    output = args.output or Path("datasets") / args.folder.resolve().name
    try:
        settings = Settings(
            frames=args.frames, fps=args.fps, width=args.size[0], height=args.size[1], per_video=args.per_video,
            buckets=args.buckets, names_as_captions=args.names_as_captions, keep_duplicates=args.keep_duplicates,
            downscale=args.downscale, stillest=args.stillest, least_matching=args.least_matching,
            least_aesthetic=args.least_aesthetic,
        )  # fmt: skip
        with torch.inference_mode():
            prepared = prepare(args.folder, output, _encoders(args), settings, _Progress())
    except (ValueError, RuntimeError) as error:
        sys.exit(f"\n{error}")
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        sys.exit(
            f"\n{error.filename or output} cannot be read or written ({error.strerror}): change its permissions, or "
            "choose another --output."
        )
    except OSError as error:
        sys.exit(f"\nThe clips cannot be prepared: {error}.")
    except KeyboardInterrupt:
        sys.exit(f"\nStopped. Finished parts are kept in {output}: run the same command again to continue.")
    print(f"\n\n{prepared.report}\n")
    print(f"See the clips in {output / SHEET} and {output / prepared.index['shards'][0]['preview']}.")
    print(f"The report is {output / REPORT}. Details of each clip are in {output / INDEX}.")


def _encoders(args: argparse.Namespace):
    """Load the models and return the encoders. They include scores if the files for them are given."""
    import comfy.sd
    import comfy.utils

    from . import prepare

    logging.getLogger().setLevel(logging.WARNING)
    model, clip, vae = headless.load_checkpoint(args.checkpoint)
    if args.vae:
        vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(headless.find("vae", args.vae)))
    encoders = prepare.encoders(model, clip, vae)
    if not args.clip_vision:
        return encoders
    assert clip is not None
    from ..temporal_layers.reader import read
    from .clip_scores import aesthetic_score, clip_score
    from .encoders import load_vision

    vision = load_vision(headless.find("clip_vision", args.clip_vision))
    if args.least_matching:
        half = clip
        if args.clip_text:
            half = comfy.sd.load_clip([headless.find("text_encoders", args.clip_text)])
        encoders = replace(encoders, matching=clip_score(vision, half))
    if args.aesthetic:
        head = read(args.aesthetic)
        encoders = replace(encoders, aesthetic=aesthetic_score(vision, head.tensors, args.aesthetic))
    return encoders


class _Progress:
    """One line for each stage, with tqdm."""

    def __init__(self):
        self._stage, self._bar = "", None

    def __call__(self, stage: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if stage != self._stage:
            if self._bar is not None:
                self._bar.close()
            self._stage, self._bar = stage, tqdm(total=total, desc=STAGES[stage])
        assert self._bar is not None
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.close()


if __name__ == "__main__":
    main()
