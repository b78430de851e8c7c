"""Says what a file of temporal layers is and saves it as our own: python run.py layers FILE [OUTPUT]."""

from __future__ import annotations

import argparse
import sys

from ..files import save_layers
from . import CHOICES, Options, load


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="run.py layers", description=__doc__)
    parser.add_argument("file", help="a file of temporal layers, or a folder of diffusers")
    parser.add_argument("output", nargs="?", help="where to save it in our own format (.safetensors)")
    parser.add_argument("--family", default="", choices=list(CHOICES), help="whose layers these are, if it cannot tell")
    given = parser.parse_args(arguments)
    try:
        state_dict, info = load(given.file, Options(given.family))
    except ValueError as error:
        sys.exit(str(error))
    size = sum(tensor.numel() for tensor in state_dict.values()) / 1e6
    print(f"{info.family} for {info.base}: {len(info.anchors)} anchors, {size:.1f} million parameters")
    print(f"{info.prediction}-prediction, betas {info.betas}, zero terminal SNR: {info.zero_terminal_snr}")
    print(f"trained on {info.frames} frames, at most {info.max_frames or 'any number'}")
    if given.output:
        save_layers(given.output, state_dict, info)
        print(f"saved {given.output}")


if __name__ == "__main__":
    main()
