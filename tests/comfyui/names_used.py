"""Every name of ComfyUI's that the pack's own files say, read off their syntax."""

from __future__ import annotations

import ast
import importlib
from typing import Any

from emu_video.launcher.environment import ROOT

ROOTS = {"comfy", "comfy_api", "comfyui_version", "folder_paths", "node_helpers", "latent_preview"}


def names_used() -> dict[str, str]:
    """Dotted name of ComfyUI's -> where it is used, for every import and attribute in the rooms that know it."""
    used: dict[str, str] = {}
    for file in (ROOT / "__init__.py", *sorted((ROOT / "host").glob("*.py")), *sorted((ROOT / "nodes").glob("*.py"))):
        aliases: dict[str, str] = {}
        nodes = list(ast.walk(ast.parse(file.read_text("utf-8"))))
        for node in nodes:
            if isinstance(node, ast.Import):
                imported = {alias.name: alias.name for alias in node.names}
                aliases |= {name.split(".")[0]: name.split(".")[0] for name in imported}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
                aliases |= imported
            else:
                continue
            for name in imported.values():
                used.setdefault(name, f"{file.relative_to(ROOT)}:{node.lineno}")
        for node in nodes:
            if isinstance(node, (ast.Name, ast.Attribute)) and (name := dotted(node, aliases)):
                used.setdefault(name, f"{file.relative_to(ROOT)}:{node.lineno}")
    return {name: where for name, where in used.items() if name.split(".")[0] in ROOTS}


def dotted(node: ast.AST, aliases: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return aliases.get(node.id)
    if isinstance(node, ast.Attribute):
        before = dotted(node.value, aliases)
        return before and f"{before}.{node.attr}"
    return None


def find(name: str) -> Any:
    """The module, class, function or attribute of that dotted name. Raises AttributeError where there is none."""
    parts = name.split(".")
    for split in range(len(parts), 0, -1):
        module = ".".join(parts[:split])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as missing:
            if missing.name is None or not (module + ".").startswith(missing.name + "."):
                raise
            continue
        for part in parts[split:]:
            found = getattr(found, part)
        return found
    raise AttributeError(name)
