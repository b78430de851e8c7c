"""The wheel holds every room and its data, and each of its modules can be imported."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from emu_video.launcher.environment import ROOT

NOT_SHIPPED = r"tests/|docs/|\.|[^/]+$"
"""Tracked files that the wheel leaves out: tests, docs, hidden folders, and files at the top but for `__init__.py`."""

NEEDS_COMFYUI = {"host", "nodes", "benchmarks"}
"""Rooms whose modules import ComfyUI."""

OPTIONAL = {"train_log", "torchao"}
"""Packages that the user brings: a checkout of RIFE for benchmarks.interpolation, and 8-bit optimisers."""


def tracked() -> list[str]:
    """Return the files of the repository, new ones included, relative to its root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [file for file in listed if (ROOT / file).is_file()]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """A wheel built offline from a copy of the tracked files."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for file in tracked():
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, source / file)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(target)]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", str(source), *options]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    (file,) = target.iterdir()
    return file


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder with the wheel's files and nothing else."""
    target = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-index", "--no-compile", "--quiet", "--target", str(target)]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", *options, str(wheel)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return target


def test_wheel_holds_what_the_repository_holds(wheel):
    with zipfile.ZipFile(wheel) as archive:
        files = {name.removeprefix("emu_video/") for name in archive.namelist() if name.startswith("emu_video/")}
        others = {name.split("/")[0] for name in archive.namelist() if not name.startswith("emu_video/")}
    assert files == {file for file in tracked() if not re.match(NOT_SHIPPED, file)} | {"__init__.py"}
    assert len(others) == 1 and others.pop().endswith(".dist-info")


IMPORT_ALL = """
import importlib, sys
site, comfyui, *modules = sys.argv[1:]
sys.path.insert(0, site)
if comfyui:
    sys.path.insert(0, comfyui)
    import comfy.cli_args
    comfy.cli_args.args.cpu = True
import emu_video
assert emu_video.__file__.startswith(site), emu_video.__file__
failed = {}
for module in modules:
    try:
        importlib.import_module(f"emu_video.{module}")
    except ImportError as error:
        failed[module] = f"{type(error).__name__}: {error}"
print(failed)
"""


def import_all(site: Path, comfyui: str, modules: list[str]) -> dict[str, str]:
    """Import the modules in a Python of their own; return those that failed, with the reason."""
    command = [sys.executable, "-I", "-c", IMPORT_ALL, str(site), comfyui, *modules]
    result = subprocess.run(command, capture_output=True, text=True, cwd=site)
    assert result.returncode == 0, result.stderr
    return ast.literal_eval(result.stdout.splitlines()[-1])


def modules_of(site: Path) -> list[str]:
    files = (file.relative_to(site / "emu_video") for file in sorted(site.rglob("*.py")))
    names = [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files]
    return [name for name in names if not name.endswith("__main__") and name != "__init__"]


def test_every_module_imports_without_comfyui_but_those_that_need_it(installed):
    modules = [name for name in modules_of(installed) if name.split(".")[0] not in NEEDS_COMFYUI]
    assert len(modules) > 80
    assert import_all(installed, "", modules) == {}


def test_every_module_imports_beside_comfyui(installed, comfyui):
    assert import_all(installed, str(comfyui), modules_of(installed)) == {}


def test_imported_packages_are_declared(installed, comfyui):
    """Everything that a room imports is in the project's dependencies, its extras, or ComfyUI itself."""
    declared = set(
        re.findall(r'"([a-z][\w-]*)[";]', (ROOT / "pyproject.toml").read_text("utf-8").split("[project.urls]")[0])
    )
    own = {file.stem for file in comfyui.iterdir()} | OPTIONAL
    distributions = packages_distributions()
    undeclared = {}
    for file in installed.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in (name.split(".")[0] for name in names):
                known = {distribution.lower().replace("_", "-") for distribution in distributions.get(name, [name])}
                if name not in own and name not in sys.stdlib_module_names and not known & declared:
                    undeclared[name] = str(file.relative_to(installed))
    assert undeclared == {}
