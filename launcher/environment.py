"""The project's own Python environment, `.venv`, with pinned packages. Standard library only."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .robust import NEEDED_GB, ROOT, LauncherError, disk_advice, locked, remove_stale, write_whole

VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "emu_video.stamp"
WORK_DIR = ROOT / ".emu"
"""Folder of all other files that run.py writes: ComfyUI, its base folder, caches and settings of tools."""

VENV_MARKER = WORK_DIR / "made_venv"
"""Exists if run.py made `.venv`. A `.venv` without it is never removed."""

INSTALLER_TMP = WORK_DIR / "tmp" / "install"
"""Temporary files of pip and uv. Removed before and after each use, because a killed pip leaves gigabytes."""

LOCK = WORK_DIR / "lock"

ISOLATED = ("-I", "-X", "utf8")
"""Options for a Python in isolated mode, which ignores PYTHONUTF8."""

REQUIREMENTS = ROOT / "launcher"
"""Folder of the pinned packages: `requirements.txt` for all commands, `requirements-<set>.txt` for some commands."""

PROJECT = ROOT / "pyproject.toml"
TORCH = ("torch", "torchvision", "torchaudio")
TORCH_INDEX = "TORCH_INDEX_URL"
"""Variable that names the package index of PyTorch. The stamp keeps it for later runs that do not set it."""


def run(command: list, what: str, advice: str, env: dict[str, str]) -> None:
    try:
        code = subprocess.call([str(part) for part in command], env=env)
    except OSError as error:
        raise LauncherError(f"{what} failed: {error}. {disk_advice() or advice}") from error
    if code:
        raise LauncherError(f"{what} failed (exit code {code}, output above). {disk_advice() or advice}")


def child_environment() -> dict[str, str]:
    """Return this process's variables, with home, caches and settings inside the project."""
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
    remove_stale(WORK_DIR / "tmp")
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
    """Return this process's variables, with the installers' caches in the project unless the user has set them."""
    INSTALLER_TMP.mkdir(parents=True, exist_ok=True)
    caches = {"UV_CACHE_DIR": str(WORK_DIR / "cache" / "uv"), "PIP_CACHE_DIR": str(WORK_DIR / "cache" / "pip")}
    return caches | os.environ | {name: str(INSTALLER_TMP) for name in ("TMPDIR", "TEMP", "TMP")}


def reexec_in_venv(arguments: list[str], comfyui: Path | None = None) -> int:
    """Run `emu_video.launcher` with these arguments in `.venv`. Write no bytecode if the user's own `comfyui` is used.

    Python's isolated mode keeps this folder off sys.path, where `nodes` would hide ComfyUI's module of the same name.
    """
    options = [*ISOLATED, "-u", *(["-B"] if comfyui else [])]
    command = [str(PYTHON), *options, "-m", "emu_video.launcher", *arguments]
    if os.name != "nt":
        os.execv(PYTHON, command)
    return subprocess.call(command)


def ensure(packages: tuple[str, ...] = (), comfyui: Path | None = None) -> None:
    """Make `.venv` unless it exists with exactly these requirements. Replace an unfinished one.

    Args:
        packages: Names of further sets of pinned packages.
        comfyui: The user's own ComfyUI, whose requirements are installed too.
    """
    base = _pinned("requirements")
    files = [*base, *(file for name in packages for file in _pinned(f"requirements-{name}"))]
    wanted = {file.name: _digest(file) for file in files}
    own = [comfyui / "requirements.txt"] if comfyui else []
    wanted["comfyui"] = "".join(map(_digest, own))
    wanted["emu_video"] = _digest(PROJECT, str(ROOT))  # the installed pack is a link to this folder
    wanted[TORCH_INDEX] = os.environ.get(TORCH_INDEX) or _made().get(TORCH_INDEX, "")
    must_match = {name: wanted[name] for name in (*(file.name for file in base), TORCH_INDEX)} | {"python": _version()}
    if not _missing(wanted, must_match):
        return
    if inside():
        raise LauncherError(
            "The .venv must be changed, but this Python runs inside it. Run run.py with your system's Python."
        )
    with locked(LOCK):
        missing = _missing(wanted, must_match)  # another run.py may have made it meanwhile
        if missing:
            _make([*files, *own], wanted, missing)


def _pinned(name: str) -> list[Path]:
    """Return the requirement files of one set: first the one with hashes."""
    files = [REQUIREMENTS / f"{name}-hashed.txt", REQUIREMENTS / f"{name}.txt"]
    return [file for file in files if file.is_file()]


def _missing(wanted: dict[str, str], must_match: dict[str, str]) -> set[str]:
    """Return the names whose digest in the stamp differs; all names if `.venv` has to be made again."""
    made = _made()
    if any(made.get(name, "") != value for name, value in must_match.items()):
        return set(wanted)
    return {name for name, digest in wanted.items() if made.get(name, "") != digest}


def _make(files: list[Path], wanted: dict[str, str], missing: set[str]) -> None:
    # Packages of another ComfyUI replaced pinned ones, of any set: those that this command lacks are checked later.
    kept = {} if "comfyui" in missing else _made()
    shutil.rmtree(INSTALLER_TMP, ignore_errors=True)
    if missing == set(wanted):
        _create()
    STAMP.unlink(missing_ok=True)
    if missing != {"emu_video"}:
        _install(files, wanted[TORCH_INDEX])
    _install_pack()
    shutil.rmtree(INSTALLER_TMP, ignore_errors=True)
    lines = {**kept, **wanted, "python": _version()}
    write_whole(STAMP, "".join(f"{name} {value}\n" for name, value in lines.items()))


def _create() -> None:
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        raise LauncherError(f"Python {_version()} is not supported: run run.py with Python 3.10, 3.11, 3.12 or 3.13.")
    print("Making .venv (this takes some minutes, because PyTorch is large)", flush=True)
    if VENV.exists():
        if not VENV_MARKER.exists():
            raise LauncherError(f"{VENV} was not made by run.py. Rename or remove it, then run the same command again.")
        print("  Removing an unfinished or outdated .venv", flush=True)
        shutil.rmtree(VENV)
    VENV_MARKER.parent.mkdir(exist_ok=True)
    VENV_MARKER.touch()
    advice = "On Debian and Ubuntu, run `apt install python3-venv`, or install uv."
    uv = ["uv", "venv", "--quiet", "--seed", "--python", sys.executable, VENV]
    command = uv if shutil.which("uv") else [sys.executable, "-m", "venv", VENV]
    run(command, "Making .venv", advice, installer_environment())


def _install(files: list[Path], index: str) -> None:
    advice = (
        f"Check the network connection and the free disk space (about {NEEDED_GB} GB), then run the same command "
        "again. If no version of a package is found, it has none for this platform: run.py supports Windows and Linux "
        "on x86-64, Linux on ARM64, and macOS 14 or newer on Apple silicon. Elsewhere, install the pack in your own "
        "ComfyUI (README.md, Install)."
    )
    if index:
        lines = (REQUIREMENTS / "requirements.txt").read_text("utf-8").splitlines()
        pins = [line.strip() for line in lines if line.split("==")[0] in TORCH]
        _pip([*pins, "--index-url", index], f"Installing PyTorch from {TORCH_INDEX}", advice)
    for file in files:
        hashes = ["--require-hashes", "--no-deps"] if file.stem.endswith("-hashed") else []
        _pip([*hashes, "--requirement", file], f"Installing the packages of {file.name}", advice)


def _install_pack() -> None:
    """Make this folder importable as `emu_video` in `.venv`."""
    advice = "Run the same command again; if it fails again, remove the folder .venv first."
    _pip(["--quiet", "--no-deps", "--no-build-isolation", "--editable", ROOT], "Installing the pack", advice)


def _pip(arguments: list, what: str, advice: str) -> None:
    pip = ["uv", "pip", "install", "--python", PYTHON] if shutil.which("uv") else [PYTHON, "-m", "pip", "install"]
    run([*pip, *arguments], what, advice, installer_environment())


def _made() -> dict[str, str]:
    """Return the digests for which `.venv` was made; {} if its Python or a readable stamp is missing."""
    if not STAMP.is_file() or not PYTHON.exists():
        return {}
    lines = STAMP.read_text("utf-8", "replace").splitlines()
    return {name: value for name, _, value in (line.partition(" ") for line in lines)}


def _digest(file: Path, more: str = "") -> str:
    return hashlib.sha256(file.read_bytes() + more.encode()).hexdigest()


def _version() -> str:
    return ".".join(map(str, sys.version_info[:2]))
