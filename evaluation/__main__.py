"""Compare two or more graphs or folders of videos: by metrics, and side by side.

An arm is NAME PATH [NODE.WIDGET=VALUE ...]: a graph saved with Export (API), or a folder of finished videos, matched by
name. In a graph, all seeds, the texts of the nodes titled Prompt and Image prompt, and the given widgets are replaced.

    python run.py evaluate --prompts prompts.txt --seeds 0 1 2 --output runs/guidance \\
        --arm weak workflows/api/text_to_video_pocket.json "Emu Video Sampler.text_guidance=1" \\
        --arm strong workflows/api/text_to_video_pocket.json "Emu Video Sampler.text_guidance=4"

Writes report.html, report.json, a contact sheet and all videos into the output folder. After an interruption, run the
same command to continue.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..host.encoders import load_clip, load_image_encoder, load_video_encoder
from ..launcher.environment import LauncherError
from ..training.checkpoint import DiskFull
from .command import evaluate, read_arm
from .measure import add_server_option
from .score import Encoders


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arm", action="append", nargs="+", default=[], metavar="WORD", help="NAME PATH [CHANGE ...]")
    parser.add_argument(
        "--prompts", type=Path, help="one prompt a line, or .csv / .jsonl with prompt, id, image_prompt"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="the same for all arms (default: 0)")
    parser.add_argument("--output", type=Path, required=True, help="folder of the videos and the report")
    parser.add_argument("--clip", type=Path, help="a CLIP model folder (Hugging Face): text alignment, consistency")
    parser.add_argument("--dino", type=Path, help="a DINOv2 file for ComfyUI's models/clip_vision: subject consistency")
    parser.add_argument("--video-encoder", type=Path, help="I3D (TorchScript) or a VideoMAE / V-JEPA folder: FVD, MMD")
    add_server_option(parser)
    return parser.parse_args()


def load_encoders(clip: Path | None, dino: Path | None, video: Path | None) -> tuple[Encoders, list[str]]:
    """Return the encoders of the given files, and a sentence for each measure whose file is missing."""
    image, text = load_clip(clip) if clip else (None, None)
    subject = load_image_encoder(dino) if dino else None
    embed_video = load_video_encoder(video) if video else None
    absent = {
        "Text alignment, frame consistency and similarity to the image need CLIP: --clip.": image,
        "Subject consistency needs DINOv2: --dino.": subject,
        "FVD and MMD need a video encoder: --video-encoder.": embed_video,
    }
    notes = [f"Not measured: {sentence}" for sentence, encoder in absent.items() if encoder is None]
    key = " ".join(f"{path.resolve()} {path.stat().st_mtime_ns}" for path in (clip, dino, video) if path)
    return Encoders(image, text, subject, embed_video, key), notes


def main() -> int:
    arguments = read_arguments()
    try:
        arms = [read_arm(words) for words in arguments.arm]
        encoders, notes = load_encoders(arguments.clip, arguments.dino, arguments.video_encoder)
        report = evaluate(
            arms,
            arguments.output,
            prompts=arguments.prompts,
            seeds=list(dict.fromkeys(arguments.seeds)),
            servers=arguments.servers,
            encoders=encoders,
            notes=notes,
        )
    except (ValueError, OSError, DiskFull, LauncherError) as error:
        print(f"\nrun.py evaluate: {error}", file=sys.stderr)
        return 1
    print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
