"""Identify a file of temporal layers, and save it in the pack's own format if an output is given."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..files import save_layers
from . import CHOICES, Options, load


def main(argv: list[str]) -> int:
    """Run `run.py layers FILE [OUTPUT]`; return the exit code."""
    parser = argparse.ArgumentParser(prog="run.py layers", description=__doc__)
    parser.add_argument("file", help="a file of temporal layers, or a folder of diffusers")
    parser.add_argument("output", nargs="?", type=Path, help="where to save it in the pack's own format (.safetensors)")
    parser.add_argument("--family", default="", choices=list(CHOICES), help="layer family, if it cannot be identified")
    args = parser.parse_args(argv)
    try:
        if args.output:
            check_output(args.output)
        state_dict, info = load(args.file, Options(args.family))
        size = sum(tensor.numel() for tensor in state_dict.values()) / 1e6
        print(f"{info.family} for {info.base}: {len(info.anchors)} anchors, {size:.1f} million parameters")
        print(f"{info.prediction}-prediction, betas {info.betas}, zero terminal SNR: {info.zero_terminal_snr}")
        print(f"trained on {info.frames} frames, at most {info.max_frames or 'any number'}")
        if args.output:
            save_layers(args.output, state_dict, info)
            print(f"saved {args.output}")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{args.output or args.file}: {error.strerror or error}.", file=sys.stderr)
        return 1
    return 0


def check_output(output: Path) -> None:
    """Check that the output file can be written, before the input is read.

    Raises:
        ValueError: The output is a folder, its folder does not exist, or it does not end in .safetensors.
    """
    if output.is_dir():
        raise ValueError(f"{output} is a folder. Give a file name, for example {output / 'x.safetensors'}.")
    if not output.parent.is_dir():
        raise ValueError(f"The folder {output.parent} does not exist. Create it, or choose another folder.")
    if output.suffix != ".safetensors":
        raise ValueError(
            f"{output} does not end in .safetensors, which is the only output format. Choose a name with this ending."
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
