"""Run one command of run.py inside its environment: `python -I -m emu_video.launcher COMMAND ...`."""

from __future__ import annotations

import signal
import sys

from . import commands
from .robust import LauncherError, explain


def main() -> int:
    """Run the command that the arguments name; return its exit code."""
    for name in ("SIGTERM", "SIGHUP"):  # closing the terminal ends the command like Ctrl-C, unless nohup is used
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    commands.take_comfyui(sys.argv)
    return commands.run(*commands.split(sys.argv[1:]))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LauncherError as error:
        sys.exit(f"\nrun.py: {error}")
    except OSError as error:
        if (reason := explain(error)) is None:
            raise
        sys.exit(f"\nrun.py: {reason}")
    except KeyboardInterrupt:
        sys.exit(130)
