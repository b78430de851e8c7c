"""CPU time and memory of the preparation of clips, for a few and for many.

python -m emu_video.benchmarks.prepare --clips 100 1000, with ComfyUI on PYTHONPATH. Each row runs in a new process:
it makes small mp4 files (24 frames at 24 fps, 128 x 128), prepares them with the pocket checkpoint, and prepares them
once more, when nothing is left to do.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FRAMES, SIDE, CLIP_SIDE = 24, 128, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one)))
        return
    print("| clips | CPU s: scan | encode | ms a clip | second run | peak MiB | before the first clip | on disk |")
    print("|---|---|---|---|---|---|---|---|")
    for clips in args.clips:
        command = [sys.executable, "-m", "emu_video.benchmarks.prepare", "--one", str(clips)]
        row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
        print("| " + " | ".join(str(value) for value in row) + " |", flush=True)


def measure(clips: int) -> list[float]:
    from ..host import headless

    headless.start()
    import comfy.sd
    import torch

    from ..host.prepare import encoders
    from ..pocket.shipped import checkpoint_file
    from ..training.prepare.prepare import prepare
    from ..training.prepare.settings import Settings

    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        videos, out = Path(folder) / "videos", Path(folder) / "out"
        subprocess.run(
            [sys.executable, "-m", "emu_video.benchmarks.prepare_videos", str(videos), str(clips)], check=True
        )
        model, clip, vae, *_ = comfy.sd.load_checkpoint_guess_config(headless.find("checkpoints", checkpoint_file()))
        assert model is not None
        made_by = encoders(model, clip, vae)
        made_by.frames(torch.zeros(8, CLIP_SIDE, CLIP_SIDE, 3))
        before, stages, start = _peak(), {}, time.process_time()

        def progress(stage: str, done: int, total: int) -> None:
            stages[stage] = time.process_time() - start

        settings = Settings(frames=8, fps=8, width=CLIP_SIDE, height=CLIP_SIDE)
        prepared = prepare(videos, out, made_by, settings, progress)
        assert len(prepared.index["clips"]) == clips, prepared.report
        seconds, peak = time.process_time() - start, _peak()
        start = time.process_time()
        prepare(videos, out, made_by, settings)
        again = time.process_time() - start
        disk = sum(file.stat().st_size for file in out.iterdir()) / 2**20
    scan = stages["scan"]
    return [
        clips,
        round(scan),
        round(seconds - scan),
        round(1000 * seconds / clips),
        round(again, 1),
        peak,
        before,
        round(disk),
    ]


def _peak() -> int:
    """Peak of this process's resident memory in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
