"""Fixtures of all tests: the installed pack and, where one is found, a real ComfyUI beside it.

COMFYUI_PATH names a ComfyUI folder; without it the one that run.py fetched is used. Tests in tests/comfyui,
tests/server and tests/browser are skipped where there is none, but fail when CI is set.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NEED_COMFYUI = {"comfyui", "server", "browser"}


def find_comfyui() -> Path | None:
    for folder in (os.environ.get("COMFYUI_PATH"), ROOT / ".emu" / "ComfyUI"):
        if folder and (Path(folder) / "comfy" / "model_patcher.py").is_file():
            return Path(folder).resolve()
    return None


COMFYUI = find_comfyui()

# `python -m pytest` puts the current folder on sys.path, where our `nodes` would hide ComfyUI's module of that name.
sys.path[:] = [folder for folder in sys.path if Path(folder or ".").resolve() != ROOT]

try:
    import emu_video
except ModuleNotFoundError:
    pytest.exit(f"emu_video is not installed: run `pip install --no-deps --editable {ROOT}`, or `run.py test`.", 4)
INSTALLED = Path(emu_video.__file__ or "").resolve().parent
if INSTALLED != ROOT:
    pytest.exit(f"emu_video is installed from {INSTALLED}, but these tests are in {ROOT}: install that one.", 4)


@cache
def use_comfyui() -> None:
    """Put ComfyUI on sys.path, for the tests that need it alone: unit tests show that they run without it."""
    if COMFYUI:
        sys.path.insert(0, str(COMFYUI))
        import comfy.cli_args  # before any other module of ComfyUI: these read the arguments when imported

        comfy.cli_args.args.cpu = True


def no_comfyui() -> None:
    word = "no ComfyUI found: set COMFYUI_PATH to its folder, or run `python run.py test`"
    if os.environ.get("CI"):
        pytest.fail(word, pytrace=False)
    pytest.skip(word, allow_module_level=True)


class NoComfyUI(pytest.Module):
    def collect(self):
        no_comfyui()


def pytest_pycollect_makemodule(module_path: Path, parent):
    room = module_path.relative_to(ROOT / "tests").parts[0]
    if room in NEED_COMFYUI:
        if COMFYUI is None:
            return NoComfyUI.from_parent(parent, path=module_path)
        use_comfyui()
    return None


@pytest.fixture(scope="session")
def comfyui() -> Path:
    """The folder of the ComfyUI in use."""
    if COMFYUI is None:
        no_comfyui()
    assert COMFYUI is not None
    use_comfyui()
    return COMFYUI


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    """A base folder with the pack in its custom_nodes."""
    from emu_video.launcher.comfyui import make_base

    room = tmp_path_factory.mktemp("base")
    return make_base(room, room / "output")


@pytest.fixture(scope="session")
def server(comfyui, base):
    """A ComfyUI server with the pack, started through comfy-cli."""
    from emu_video.launcher.server import running

    with running(comfyui, base, base / "output") as server:
        yield server


@pytest.fixture(scope="session")
def pack(comfyui, tmp_path_factory) -> dict[str, type]:
    """Node id -> node class, loaded in this process as ComfyUI loads a pack; files go to a fresh folder."""
    import folder_paths

    room = tmp_path_factory.mktemp("comfyui")
    folder_paths.set_output_directory(str(room / "output"))
    folder_paths.set_temp_directory(str(room / "temp"))
    folder_paths.set_user_directory(str(room / "user"))

    async def load() -> dict[str, type]:
        extension = await emu_video.comfy_entrypoint()
        await extension.on_load()
        return {node.GET_SCHEMA().node_id: node for node in await extension.get_node_list()}

    classes = asyncio.run(load())
    importlib.import_module("nodes").NODE_CLASS_MAPPINGS.update(classes)
    return classes
