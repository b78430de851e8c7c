"""The rooms of the pack, read off the syntax: imports point down, ComfyUI stays in host and nodes, files stay short."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from emu_video.launcher.commands import COMMANDS
from emu_video.launcher.environment import ROOT

TORCH_ROOMS = {"temporal_layers", "diffusion", "optical_flow", "training"}
POCKET = {"pocket.world", "pocket.model", "pocket.shipped", "pocket.recipe"}

ARROWS: dict[str, set[str]] = {
    "__init__": {"host", "nodes"},
    "nodes": {"host"},
    "host": {*TORCH_ROOMS, "pocket.model", "pocket.shipped"},
    "training": {"temporal_layers", "diffusion"},
    "temporal_layers": {"diffusion"},
    "diffusion": set(),
    "optical_flow": set(),
    "launcher": set(),
    "evaluation": {*TORCH_ROOMS, "launcher"},
    "pocket.shipped": set(),
    "pocket.recipe": {"training", "pocket.world", "pocket.model"},
    "pocket.world": {"diffusion"},
    "pocket.model": {"pocket.world", "pocket.shipped", "diffusion", "temporal_layers"},
    "pocket.stages": {*TORCH_ROOMS, *POCKET},
    "pocket.evaluate": {*TORCH_ROOMS, *POCKET, "pocket.stages", "evaluation", "launcher"},
    "pocket.ablations": {*TORCH_ROOMS, *POCKET, "pocket.stages", "pocket.evaluate", "evaluation", "launcher"},
    "pocket.make": {*POCKET, "pocket.stages", "training"},
    "benchmarks": {*TORCH_ROOMS, *POCKET, "host", "evaluation", "launcher"},
    "docs": {*TORCH_ROOMS, "pocket.shipped", "pocket.evaluate", "pocket.ablations", "evaluation", "launcher"},
}
"""Room -> rooms that it may import. `pocket` has rooms of its own."""

COMMAND_ARROWS = {"host"}
"""Rooms that the module of a command may import besides: it hands functions of host to the rooms below."""

COMFYUI = {"comfy", "comfy_api", "comfy_api_nodes", "comfy_execution", "comfy_extras", "comfyui_version", "execution"}
COMFYUI |= {"app", "folder_paths", "latent_preview", "node_helpers", "nodes", "server"}
MAY_IMPORT_COMFYUI = {
    "host": "the room that touches ComfyUI",
    "nodes": "schemas",
    "__init__": "the entry point compares ComfyUI's version",
    "benchmarks": "they measure ComfyUI with the pack",
}
"""Room -> why."""

KNOWN_ARROWS: set[tuple[str, str]] = set()
"""Imports that point up today: (file, room). Remove an entry with its import; add none."""

KNOWN_NAMES: set[tuple[str, str]] = set()
"""Display names of nodes in rooms below host today: (file, name). Remove an entry with its text; add none."""

LONGEST = 400
"""Lines of a file."""


class Import(NamedTuple):
    file: str
    line: int
    module: str
    """Dotted name; of the pack's own modules without `emu_video`."""
    is_own: bool


@cache
def sources() -> dict[str, ast.Module]:
    """Return the syntax of every Python file of the pack, tests left out, by its path."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    files = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    shipped = [file for file in files if "/" in file or file == "__init__.py"]
    shipped = [file for file in shipped if not file.startswith("tests/") and (ROOT / file).is_file()]
    return {file: ast.parse((ROOT / file).read_text("utf-8")) for file in shipped}


def imports(file: str, tree: ast.Module) -> Iterator[Import]:
    package = Path(file).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name, False)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            module = node.module or ""
            is_own = module.split(".")[0] == "emu_video"
            yield Import(file, node.lineno, module.removeprefix("emu_video").lstrip("."), is_own)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            base = [part for part in base if part]
            for alias in node.names:  # `from ..pocket import shipped` names a room, `from .x import function` does not
                yield Import(file, node.lineno, ".".join([*base, alias.name]), True)


def room_of(module: str) -> str:
    """Return the room of a dotted name: its first part, or two of them in pocket."""
    parts = module.split(".")
    return ".".join(parts[: 2 if parts[0] == "pocket" else 1])


def module_of(file: str) -> str:
    return ".".join(Path(file).with_suffix("").parts)


def is_command(file: str) -> bool:
    module = module_of(file)
    modules = {command.module for command in COMMANDS.values()}
    return module in modules or module.removesuffix(".__main__") in modules


def all_imports() -> list[Import]:
    return [entry for file, tree in sources().items() for entry in imports(file, tree)]


def wrong_arrows() -> dict[tuple[str, str], int]:
    """Return (file, room that it must not import) -> line."""
    wrong = {}
    for entry in all_imports():
        source, target = room_of(module_of(entry.file)), room_of(entry.module)
        allowed = ARROWS.get(source, set()) | (COMMAND_ARROWS if is_command(entry.file) else set())
        if entry.is_own and target != source and target not in allowed:
            wrong[entry.file, target] = entry.line
    return wrong


def test_every_room_has_its_arrows():
    rooms = {room_of(module_of(file)) for file in sources()} - {"pocket.__init__"}
    assert rooms <= set(ARROWS), "a new room: say in ARROWS what it may import"


def test_arrows_have_no_cycle():
    remaining = {room: set(below) for room, below in ARROWS.items()}
    while lowest := {room for room, below in remaining.items() if not below & set(remaining)}:
        remaining = {room: below for room, below in remaining.items() if room not in lowest}
    assert remaining == {}


def test_imports_point_down():
    wrong = wrong_arrows()
    new = {pair: line for pair, line in wrong.items() if pair not in KNOWN_ARROWS}
    assert not new, "\n".join(
        f"{file}:{line} imports {room}, which is not below it" for (file, room), line in new.items()
    )
    assert set(wrong) >= KNOWN_ARROWS, f"mended, remove from KNOWN_ARROWS: {sorted(KNOWN_ARROWS - set(wrong))}"


def test_comfyui_stays_in_host_and_nodes():
    found = [
        f"{entry.file}:{entry.line} imports {entry.module}"
        for entry in all_imports()
        if not entry.is_own
        and entry.module.split(".")[0] in COMFYUI
        and room_of(module_of(entry.file)) not in MAY_IMPORT_COMFYUI
    ]
    assert not found, "\n".join(found)


def display_names() -> set[str]:
    """Return the display names of all nodes, read off their schemas."""
    names = set()
    for file, tree in sources().items():
        if file.startswith("nodes/"):
            keywords = [word for node in ast.walk(tree) if isinstance(node, ast.Call) for word in node.keywords]
            schemas = [word.value for word in keywords if word.arg == "display_name"]
            names |= {value.value for value in schemas if isinstance(value, ast.Constant)}
    return {name for name in names if isinstance(name, str) and " " in name}


def test_node_names_stay_in_host_and_nodes():
    names = display_names()
    assert len(names) >= 15
    pattern = re.compile("|".join(rf"\b{re.escape(name)}" for name in sorted(names, key=len, reverse=True)))
    found = {}
    for file, tree in sources().items():
        if room_of(module_of(file)) not in {*TORCH_ROOMS, *POCKET, "pocket.stages"}:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= {(file, name): node.lineno for name in pattern.findall(node.value)}
    new = {pair: line for pair, line in found.items() if pair not in KNOWN_NAMES}
    assert not new, "\n".join(f"{file}:{line} names the node {name!r}" for (file, name), line in new.items())
    assert set(found) >= KNOWN_NAMES, f"mended, remove from KNOWN_NAMES: {sorted(KNOWN_NAMES - set(found))}"


def test_files_are_short():
    files = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lengths = {
        file: len((ROOT / file).read_text("utf-8").splitlines()) for file in files.split() if (ROOT / file).is_file()
    }
    assert {file: lines for file, lines in lengths.items() if lines > LONGEST} == {}


@pytest.mark.parametrize(
    ("file", "text", "wrong"),
    [
        ("diffusion/a.py", "from ..host import sampling", "host"),
        ("temporal_layers/formats/a.py", "from ...training.loop import train", "training"),
        ("pocket/model/a.py", "from ..stages.image import main", "pocket.stages"),
        ("pocket/model/a.py", "from .. import stages", "pocket.stages"),
        ("training/a.py", "import emu_video\nfrom emu_video.launcher import server", "launcher"),
        ("host/a.py", "from ..pocket import evaluate", "pocket.evaluate"),
    ],
)
def test_wrong_arrow_is_seen(monkeypatch, file, text, wrong):
    monkeypatch.setitem(globals(), "sources", lambda: {file: ast.parse(text)})
    assert set(wrong_arrows()) == {(file, wrong)}
