"""Run the Emu Video commands: `python run.py --help` lists them. Needs Python 3.10 to 3.13 and nothing else.

The first run makes `.venv` with everything the commands need. This file only prepares that environment, with the
standard library alone, and then runs `python -m emu_video.launcher` in it.
"""

from __future__ import annotations

import sys

from launcher import commands, environment, robust


def main() -> int:
    """Check the arguments, make the environment if it is missing, and run the command in it."""
    comfyui = commands.take_comfyui(sys.argv)
    name, arguments = commands.split(sys.argv[1:])
    commands.check(name, arguments)
    environment.ensure(commands.COMMANDS[name].packages, comfyui)
    return environment.reexec_in_venv([*name.split(), *arguments], comfyui)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except environment.LauncherError as error:
        sys.exit(f"\nrun.py: {error}")
    except OSError as error:
        if (reason := robust.explain(error)) is None:
            raise
        sys.exit(f"\nrun.py: {reason}")
    except KeyboardInterrupt:
        sys.exit(130)
