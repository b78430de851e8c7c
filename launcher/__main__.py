"""Run one command of run.py inside its environment: `python -I -m emu_video.launcher COMMAND ...`."""

from __future__ import annotations

import signal
import sys

from . import commands
from .environment import LauncherError


def main() -> int:
    """Run the command that the arguments name; return its exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a server is stopped then, too
    commands.take_comfyui(sys.argv)
    return commands.run(*commands.split(sys.argv[1:]))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LauncherError as error:
        sys.exit(f"\nrun.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
