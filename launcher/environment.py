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
WORK_DIR = ROOT / ".emu"
"""Everything else that run.py writes: ComfyUI, its base folder, caches and settings of the tools it calls."""

VENV_MARKER = WORK_DIR / "made_venv"
"""Stands from the moment that run.py begins to make `.venv`: only such a one is ever removed."""

PINNED = ROOT / "launcher" / "requirements.txt"
"""Pinned packages of every command. Sets that only some commands need lie beside it as `requirements-<set>.txt`."""

PROJECT = ROOT / "pyproject.toml"
TORCH = ("torch", "torchvision", "torchaudio")


class LauncherError(Exception):
    """A step of run.py failed; the message says what failed and what to try."""


def run(command: list, what: str, advice: str, env: dict[str, str]) -> None:
    try:
        code = subprocess.call([str(part) for part in command], env=env)
    except OSError as error:
        raise LauncherError(f"{what} failed: {error}. {advice}") from error
    if code:
        raise LauncherError(f"{what} failed (exit code {code}, output above). {advice}")


def child_environment() -> dict[str, str]:
    """This process's variables, with homes, caches and settings pointed into the project."""
    home = WORK_DIR / "home"
    inside = {
        "HOME": home,
        "USERPROFILE": home,
        "APPDATA": home / "AppData" / "Roaming",
        "LOCALAPPDATA": home / "AppData" / "Local",
        "XDG_CONFIG_HOME": home / ".config",
        "XDG_CACHE_HOME": home / ".cache",
        "XDG_DATA_HOME": home / ".local" / "share",
        "XDG_STATE_HOME": home / ".local" / "state",
        "TMPDIR": WORK_DIR / "tmp",
        "TEMP": WORK_DIR / "tmp",
        "TMP": WORK_DIR / "tmp",
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
    (WORK_DIR / "tmp").mkdir(parents=True, exist_ok=True)
    caches = {"UV_CACHE_DIR": str(WORK_DIR / "cache" / "uv"), "PIP_CACHE_DIR": str(WORK_DIR / "cache" / "pip")}
    return caches | os.environ | {name: str(WORK_DIR / "tmp") for name in ("TMPDIR", "TEMP", "TMP")}


def reexec_in_venv(arguments: list[str]) -> int:
    """Run `emu_video.launcher` with these arguments in `.venv`.

    Python's isolated mode keeps this folder off sys.path, where `nodes` would hide ComfyUI's module of the same name.
    """
    command = [str(PYTHON), "-I", "-u", "-m", "emu_video.launcher", *arguments]
    if os.name != "nt":
        os.execv(PYTHON, command)
    return subprocess.call(command)


def ensure(packages: tuple[str, ...] = (), comfyui: Path | None = None) -> None:
    """Make `.venv` unless one for exactly these requirements exists; replace one that is unfinished.

    Args:
        packages: Names of further sets of pinned packages.
        comfyui: The user's own ComfyUI, whose requirements are installed too.
    """
    files = [PINNED, *(PINNED.with_name(f"requirements-{name}.txt") for name in packages)]
    files += [comfyui / "requirements.txt"] if comfyui else []
    wanted = {file.name if file.parent == PINNED.parent else "comfyui": _digest(file) for file in files}
    wanted["emu_video"] = _digest(PROJECT)
    made = _made()
    if made.get("python") != _version() or made.get(PINNED.name) != wanted[PINNED.name]:
        made = {}
    missing = {name for name, digest in wanted.items() if made.get(name) != digest}
    if not missing:
        return
    if inside():
        raise LauncherError(
            "This Python runs inside the .venv that has to change. Run run.py with your system's Python."
        )
    if not made:
        _create()
    STAMP.unlink(missing_ok=True)
    if missing != {"emu_video"}:
        _install(files)
    _install_pack()
    lines = {**made, **wanted, "python": _version()}
    STAMP.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))


def _create() -> None:
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        raise LauncherError(f"Python {_version()} is not supported: run run.py with Python 3.10, 3.11, 3.12 or 3.13.")
    print("Making .venv (the first time this takes some minutes: PyTorch is large)", flush=True)
    if VENV.exists():
        if not VENV_MARKER.exists():
            raise LauncherError(f"{VENV} was not made by run.py. Rename or remove it, then run the same command again.")
        print("  an unfinished or outdated .venv is removed first", flush=True)
        shutil.rmtree(VENV)
    VENV_MARKER.parent.mkdir(exist_ok=True)
    VENV_MARKER.touch()
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


def _install_pack() -> None:
    """Make this folder importable as `emu_video` in `.venv`."""
    pip = ["uv", "pip", "install", "--python", PYTHON] if shutil.which("uv") else [PYTHON, "-m", "pip", "install"]
    command = [*pip, "--quiet", "--no-deps", "--no-build-isolation", "--editable", ROOT]
    advice = "Run the same command again; if it fails again, remove the folder .venv first."
    run(command, "Installing the pack", advice, installer_environment())


def _made() -> dict[str, str]:
    if not STAMP.is_file() or not PYTHON.exists():
        return {}
    return dict(line.split(" ", 1) for line in STAMP.read_text().splitlines())


def _digest(file: Path) -> str:
    index = os.environ.get("TORCH_INDEX_URL", "") if file == PINNED else ""
    return hashlib.sha256(file.read_bytes() + index.encode()).hexdigest()


def _version() -> str:
    return ".".join(map(str, sys.version_info[:2]))
