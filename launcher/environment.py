"""The project's own Python environment, `.venv`, with pinned packages. Standard library only."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "emu_video.stamp"
ROOM = ROOT / ".emu"
"""Everything else that run.py writes: ComfyUI, its base folder, caches and settings of the tools it calls."""

OURS = ROOM / "made_venv"
"""Stands from the moment that run.py begins to make `.venv`: only such a one is ever removed."""

PINNED = ROOT / "launcher" / "requirements.txt"
PINNED_TEST = ROOT / "launcher" / "requirements-test.txt"
TORCH = ("torch", "torchvision", "torchaudio")


class Failed(Exception):
    """A step of run.py failed; the message says what failed and what to try."""


def run(command: list, what: str, advice: str, env: dict[str, str]) -> None:
    try:
        code = subprocess.call([str(part) for part in command], env=env)
    except OSError as error:
        raise Failed(f"{what} failed: {error}. {advice}") from error
    if code:
        raise Failed(f"{what} failed (exit code {code}, output above). {advice}")


def child_environment() -> dict[str, str]:
    """This process's variables, with homes, caches and settings pointed into the project."""
    home = ROOM / "home"
    inside = {
        "HOME": home,
        "USERPROFILE": home,
        "APPDATA": home / "AppData" / "Roaming",
        "LOCALAPPDATA": home / "AppData" / "Local",
        "XDG_CONFIG_HOME": home / ".config",
        "XDG_CACHE_HOME": home / ".cache",
        "XDG_DATA_HOME": home / ".local" / "share",
        "XDG_STATE_HOME": home / ".local" / "state",
        "TMPDIR": ROOM / "tmp",
        "TEMP": ROOM / "tmp",
        "TMP": ROOM / "tmp",
    }
    for folder in inside.values():
        folder.mkdir(parents=True, exist_ok=True)
    env = os.environ | {name: str(folder) for name, folder in inside.items()}
    env |= {"VIRTUAL_ENV": str(VENV), "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
    env |= {"DO_NOT_TRACK": "1", "COMFY_NO_UPDATE_CHECK": "1", "COMFY_KNOWLEDGE_DISABLE": "1"}
    env["PATH"] = os.pathsep.join([str(PYTHON.parent), env.get("PATH", "")])
    for name in ("PYTHONHOME", "PYTHONPATH", "CONDA_PREFIX"):
        env.pop(name, None)
    return env


def inside() -> bool:
    return Path(sys.prefix).resolve() == VENV.resolve()


def installer_environment() -> dict[str, str]:
    """This process's variables, with the installers' caches in the project unless the user placed them."""
    (ROOM / "tmp").mkdir(parents=True, exist_ok=True)
    caches = {"UV_CACHE_DIR": str(ROOM / "cache" / "uv"), "PIP_CACHE_DIR": str(ROOM / "cache" / "pip")}
    return caches | os.environ | {name: str(ROOM / "tmp") for name in ("TMPDIR", "TEMP", "TMP")}


def again_inside(script: Path) -> int:
    """Runs the script anew, with its arguments, in `.venv`."""
    command = [str(PYTHON), str(script.resolve()), *sys.argv[1:]]
    if os.name != "nt":
        os.execv(PYTHON, command)
    return subprocess.call(command)


def ensure(*, test: bool, comfyui: Path | None) -> None:
    """Makes `.venv` unless one for exactly these requirements stands; a half-made one is made anew.

    comfyui: the user's own ComfyUI, whose requirements are installed too.
    """
    files = [PINNED, *([PINNED_TEST] if test else []), *([comfyui / "requirements.txt"] if comfyui else [])]
    wanted = {file.name if file.parent == PINNED.parent else "comfyui": _digest(file) for file in files}
    made = _made()
    if made.get("python") != _version() or made.get(PINNED.name) != wanted[PINNED.name]:
        made = {}
    if all(made.get(name) == digest for name, digest in wanted.items()):
        return
    if inside():
        raise Failed("This Python runs inside the .venv that has to change. Run run.py with your system's Python.")
    if not made:
        _create()
    STAMP.unlink(missing_ok=True)
    _install(files)
    lines = {**made, **wanted, "python": _version()}
    STAMP.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))


def _create() -> None:
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        raise Failed(f"Python {_version()} is not supported: run run.py with Python 3.10, 3.11, 3.12 or 3.13.")
    print("Making .venv (the first time this takes some minutes: PyTorch is large)", flush=True)
    if VENV.exists():
        if not OURS.exists():
            raise Failed(f"{VENV} was not made by run.py. Rename or remove it, then run the same command again.")
        print("  an unfinished or outdated .venv is removed first", flush=True)
        shutil.rmtree(VENV)
    OURS.parent.mkdir(exist_ok=True)
    OURS.touch()
    advice = "On Debian and Ubuntu `apt install python3-venv` brings it; or install uv."
    if shutil.which("uv"):
        run(
            ["uv", "venv", "--quiet", "--seed", "--python", sys.executable, VENV],
            "uv venv",
            advice,
            installer_environment(),
        )
    else:
        run([sys.executable, "-m", "venv", VENV], "python -m venv", advice, installer_environment())


def _install(files: list[Path]) -> None:
    pip = ["uv", "pip", "install", "--python", PYTHON] if shutil.which("uv") else [PYTHON, "-m", "pip", "install"]
    advice = "Check the network connection and the free disk space (about 12 GB), then run the same command again."
    index = os.environ.get("TORCH_INDEX_URL")
    if index:
        pins = [line.strip() for line in PINNED.read_text().splitlines() if line.split("==")[0] in TORCH]
        run(
            [*pip, *pins, "--index-url", index],
            "Installing PyTorch from TORCH_INDEX_URL",
            advice,
            installer_environment(),
        )
    for file in files:
        run([*pip, "-r", file], f"Installing the packages of {file.name}", advice, installer_environment())


def _made() -> dict[str, str]:
    if not STAMP.is_file() or not PYTHON.exists():
        return {}
    return dict(line.split(" ", 1) for line in STAMP.read_text().splitlines())


def _digest(file: Path) -> str:
    index = os.environ.get("TORCH_INDEX_URL", "") if file == PINNED else ""
    return hashlib.sha256(file.read_bytes() + index.encode()).hexdigest()


def _version() -> str:
    return ".".join(map(str, sys.version_info[:2]))
