"""Train temporal layers on prepared clips: python run.py train RECIPE DATASET --checkpoint FILE.

On several GPUs: torchrun --nproc-per-node 2 -m emu_video.host.train_command RECIPE DATASET --checkpoint FILE. Run the
same command again to continue after a stop. Ctrl-C stops after the current step and saves; a second Ctrl-C stops
immediately.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path

from . import headless

STOPPED = "Stopped. Run this command again to continue."


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    from ..training.recipe import names

    parser = argparse.ArgumentParser(
        prog="run.py train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", help=f"a TOML file, or one of {', '.join(names())}")
    parser.add_argument("dataset", type=Path, help="folder written by run.py prepare")
    parser.add_argument("--checkpoint", required=True, help="image checkpoint: a file, or a name in models/checkpoints")
    parser.add_argument("--layers", help="temporal layers to start from: a file, or a name in models/temporal_layers")
    parser.add_argument("--output", type=Path, help="folder of the run (default: runs/ and the dataset's name)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the recipe")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> None:
    args = arguments(given)
    headless.start()
    from comfy.model_management import InterruptProcessingException
    from torch import OutOfMemoryError

    from ..training.checkpoint import DiskFull
    from ..training.recipe import load_recipe
    from .training_memory import advice

    try:
        recipe = load_recipe(args.recipe, args.set)
        try:
            print(_train(args, recipe))
        except OutOfMemoryError:
            sys.exit(
                "\nThe GPU has no memory left; other programs may use some of it. The last checkpoint is kept. "
                f"{advice(recipe.stages[0])}"
            )
    except (ValueError, OSError, DiskFull) as error:
        sys.exit(f"\n{error}")
    except KeyboardInterrupt:
        sys.exit(f"\n{STOPPED}")
    except InterruptProcessingException:  # between the videos of prior_prompts
        sys.exit(f"\n{STOPPED}")


def _train(args: argparse.Namespace, recipe) -> str:
    """Train in this process, which may be one of several that torchrun started. Return the line to print."""
    import comfy.model_management
    import torch

    from ..temporal_layers.formats import load
    from ..training.distributed import processes
    from .training import train_recipe
    from .training_samples import decode, save_samples
    from .training_session import encoded

    folder = args.output or Path("runs") / args.dataset.resolve().name
    logging.getLogger().setLevel(logging.WARNING)
    stop = _Stop()
    with torch.inference_mode(), processes(comfy.model_management.get_torch_device()) as group:
        model, clip, vae = headless.load_checkpoint(args.checkpoint)
        progress = _Progress() if group.is_first else None

        def on_samples(samples, fps: float) -> None:
            save_samples(folder, decode(model, vae, samples.latents), samples, fps)

        trained = train_recipe(
            model,
            recipe,
            args.dataset,
            folder,
            given=load(headless.find("temporal_layers", args.layers)) if args.layers else None,
            processes=group,
            on_step=progress,
            on_samples=on_samples,
            encode=None if clip is None else lambda text: encoded(clip, text),
            should_stop=lambda: stop.wanted,
            echo=False,
        )
    if not group.is_first:
        return ""
    how = STOPPED if trained.stopped else "Done."
    return f"\n{how} {trained.file}: temporal layers after {trained.info.training['steps']} steps."


class _Stop:
    """Handler of Ctrl-C: stop after the current step. A second Ctrl-C ends the program."""

    def __init__(self):
        self.wanted = False
        signal.signal(signal.SIGINT, self._asked)

    def _asked(self, *_: object) -> None:
        self.wanted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("\nStopping after this step. Press Ctrl-C again to stop immediately.", file=sys.stderr, flush=True)


class _Progress:
    """Progress bar for each stage, with the last figures of the log."""

    SHOWN = ("loss", "check_loss", "motion", "clips_per_second", "memory")

    def __init__(self):
        self._name, self._bar = "", None

    def __call__(self, stage, progress) -> None:
        from tqdm import tqdm

        if stage.name != self._name:
            if self._bar is not None:
                self._bar.close()
            self._name = stage.name
            self._bar = tqdm(total=progress.steps, initial=progress.done - 1, desc=stage.name, unit="step")
        assert self._bar is not None
        row = progress.log.last
        self._bar.set_postfix({name: row[name] for name in self.SHOWN if name in row}, refresh=False)
        self._bar.update(progress.done - self._bar.n)
        if progress.done == progress.steps:
            self._bar.close()


if __name__ == "__main__":
    main()
