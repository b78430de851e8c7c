"""ComfyUI loads the folder: under any name, quickly, without a warning, and nothing global changes."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from emu_video.tests.compatibility.versions import OLDEST

ROOT = Path(__file__).resolve().parent.parent
NODES = {
    "EmuVideoAffinity",
    "EmuVideoDDIM",
    "EmuVideoExtend",
    "EmuVideoFirstFrame",
    "EmuVideoFirstLast",
    "EmuVideoFrameRateAndMotion",
    "EmuVideoGuider",
    "EmuVideoInterpolateFlow",
    "EmuVideoTrainTemporalLayers",
    "EmuVideoInterpolation",
    "EmuVideoJoin",
    "EmuVideoKnownFrames",
    "EmuVideoLoadMotionLoRA",
    "EmuVideoLoadTemporalLayers",
    "EmuVideoPrepareClips",
    "EmuVideoPromptSchedule",
    "EmuVideoResizeKnownFrames",
    "EmuVideoMatchSmallVideo",
    "EmuVideoSampler",
    "EmuVideoSuperResolution",
    "EmuVideoTemporalStrength",
    "EmuVideoTrailingSteps",
    "EmuVideoOscillatingGuidance",
    "EmuVideoValueSchedule",
    "EmuVideoZeroSNR",
}
"""Every node of the pack. Add a new one here."""


def test_help_page_for_every_node(pack):
    assert {name for name in pack if not (ROOT / "web" / "docs" / f"{name}.md").is_file()} == set()


def test_node_ids(pack):
    assert set(pack) == NODES
    assert all(name.startswith("EmuVideo") for name in pack)


def test_every_input_has_a_tooltip(pack):
    bare = [
        f"{name}.{entry.id}" for name, node in pack.items() for entry in node.GET_SCHEMA().inputs if not entry.tooltip
    ]
    assert bare == []


SLOW_TO_IMPORT = {"accelerate", "cv2", "diffusers", "kornia", "pandas", "scipy", "torchvision", "transformers"}
"""Packages that would slow ComfyUI's start down: nodes import them when they run."""

LOAD = textwrap.dedent("""
    import asyncio, json, logging, sys, types
    folder, link = sys.argv[1:]
    sys.path.insert(0, folder)
    import comfy.cli_args
    comfy.cli_args.args.cpu = True
    import torch, numpy, nodes, folder_paths, comfy.sd, comfy.samplers, comfy.supported_models, execution
    asyncio.run(nodes.init_builtin_extra_nodes())

    def snapshot():
        seen = {}
        for name, module in sorted(sys.modules.items()):
            if name.split(".")[0] not in {"comfy", "comfy_extras", "comfy_api", "nodes", "folder_paths", "execution",
                                          "torch", "numpy", "comfy_execution", "latent_preview"}:
                continue
            for key, value in list(vars(module).items()):
                if isinstance(value, (types.FunctionType, types.BuiltinFunctionType, type)):
                    seen[f"{name}.{key}"] = id(value)
                if isinstance(value, type) and value.__module__ == name:
                    for attribute, member in list(vars(value).items()):
                        if callable(member) or isinstance(member, (classmethod, staticmethod, property)):
                            seen[f"{name}.{key}.{attribute}"] = id(member)
        return seen

    sys.modules["cv2"] = None  # as where OpenCV is not installed: nodes that do not need it must appear
    modules = set(sys.modules)
    before, registered = snapshot(), set(nodes.NODE_CLASS_MAPPINGS)
    models = list(comfy.supported_models.models)
    records = []
    class Keep(logging.Handler):
        def emit(self, record): records.append(record.getMessage())
    keep = Keep(logging.WARNING)
    logging.getLogger().addHandler(keep)
    import warnings
    logging.captureWarnings(True)
    warnings.simplefilter("always")
    loaded = asyncio.run(nodes.load_custom_node(link))
    imported = {name.split(".")[0] for name in set(sys.modules) - modules}
    warned = list(records)  # before the second look: touching torch's deprecated names warns, too
    after = snapshot()
    print(json.dumps({
        "loaded": loaded,
        "warnings": warned,
        "imported": sorted(imported - set(sys.stdlib_module_names)),
        "changed": sorted(name for name in before if name in after and before[name] != after[name]),
        "nodes": sorted(set(nodes.NODE_CLASS_MAPPINGS) - registered),
        "models_kept": comfy.supported_models.models[: len(models)] == models,
    }))
""")


@pytest.mark.parametrize("name", ["emu-video", "Emu Video (1)", "comfyui.emu.main"])
def test_loads_under_any_name_and_changes_nothing_global(comfyui, tmp_path, name):
    link = tmp_path / "custom_nodes" / name
    link.parent.mkdir()
    link.symlink_to(ROOT, target_is_directory=True)
    result = subprocess.run(
        [sys.executable, "-c", LOAD, str(comfyui), str(link)], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["warnings"] == []
    assert report["loaded"] is True
    assert not set(report["imported"]) & SLOW_TO_IMPORT
    assert report["changed"] == []
    assert report["models_kept"]
    assert set(report["nodes"]) == NODES


@pytest.mark.parametrize("version", ["0.16.2", "0.9.30"])
def test_older_comfyui_is_told_and_starts_without_the_pack(pack, tmp_path, monkeypatch, caplog, version):
    import comfyui_version

    nodes: Any = importlib.import_module("nodes")
    link = tmp_path / "emu-video"
    link.symlink_to(ROOT, target_is_directory=True)
    monkeypatch.setattr(comfyui_version, "__version__", version)
    known = set(nodes.NODE_CLASS_MAPPINGS)
    assert asyncio.run(nodes.load_custom_node(str(link))) is False
    (word,) = [record.getMessage() for record in caplog.records if record.levelname != "INFO"]
    wanted = f"Emu Video needs ComfyUI {OLDEST} or newer; this is {version}: update ComfyUI and start it again."
    assert word.endswith(wanted) and "Traceback" not in word
    assert set(nodes.NODE_CLASS_MAPPINGS) == known


@pytest.mark.parametrize("version", [OLDEST, "0.100.0", "1.0", "0.31.0rc1"])
def test_newer_comfyui_is_taken(pack, monkeypatch, version):
    import comfyui_version
    import emu_video

    monkeypatch.setattr(comfyui_version, "__version__", version)
    assert asyncio.run(emu_video.comfy_entrypoint())


def test_oldest_comfyui_is_declared_and_tried():
    import emu_video

    declared = re.search(r'^requires-comfyui = ">=(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    assert declared and declared[1] == emu_video.OLDEST_COMFYUI == OLDEST


def test_comfyui_starts_with_the_pack(comfyui, base):
    result = subprocess.run(
        [sys.executable, "main.py", "--cpu", "--quick-test-for-ci", "--base-directory", str(base)]
        + ["--database-url", "sqlite:///:memory:"],
        capture_output=True,
        text=True,
        cwd=comfyui,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    log = result.stdout + result.stderr
    assert result.returncode == 0 and re.search(r"[\d.]+ seconds: .*emu-video", log), log
    assert "IMPORT FAILED" not in log
