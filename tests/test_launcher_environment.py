"""The environment of run.py: what is installed when, what is refused, and the Python that runs the commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from emu_video.launcher import environment
from emu_video.launcher.robust import LauncherError


@pytest.fixture
def project(tmp_path, monkeypatch) -> list[str]:
    """An empty project folder; the list says what was made in it."""
    done: list[str] = []
    venv, pinned = tmp_path / ".venv", tmp_path / "launcher"
    pinned.mkdir()
    (pinned / "requirements.txt").write_text("torch==2.11.0\n")
    (pinned / "requirements-test.txt").write_text("pytest==9\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    monkeypatch.setattr(environment, "VENV", venv)
    monkeypatch.setattr(environment, "PYTHON", venv / "bin" / "python")
    monkeypatch.setattr(environment, "STAMP", venv / "emu_video.stamp")
    monkeypatch.setattr(environment, "REQUIREMENTS", pinned)
    monkeypatch.setattr(environment, "LOCK", tmp_path / ".emu" / "lock")
    monkeypatch.setattr(environment, "INSTALLER_TMP", tmp_path / ".emu" / "tmp" / "install")
    monkeypatch.setattr(environment, "PROJECT", tmp_path / "pyproject.toml")
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.delenv("TORCH_INDEX_URL", raising=False)

    def create():
        done.append("venv")
        (venv / "bin").mkdir(parents=True, exist_ok=True)
        (venv / "bin" / "python").touch()

    monkeypatch.setattr(environment, "_create", create)
    monkeypatch.setattr(environment, "_install", lambda files, index: done.extend(each.name for each in files))
    monkeypatch.setattr(environment, "_install_pack", lambda: done.append("pack"))
    return done


def ensure(project: list[str], test: bool = False, own: Path | None = None) -> list[str]:
    project.clear()
    environment.ensure(("test",) if test else (), comfyui=own)
    return list(project)


def test_environment_is_made_once(project):
    assert ensure(project) == ["venv", "requirements.txt", "pack"]
    assert ensure(project) == []


def test_tests_add_to_the_environment(project):
    ensure(project)
    assert ensure(project, test=True) == ["requirements.txt", "requirements-test.txt", "pack"]
    assert ensure(project, test=True) == ensure(project) == []


def test_own_comfyui_adds_its_requirements(project, tmp_path):
    (tmp_path / "requirements.txt").write_text("einops\n")
    assert ensure(project, own=tmp_path) == ["venv", "requirements.txt", "requirements.txt", "pack"]
    assert ensure(project, own=tmp_path) == []


def test_pinned_packages_return_with_the_pinned_comfyui(project, tmp_path):
    """Those of the user's own ComfyUI may have replaced some, also of the tests."""
    (tmp_path / "requirements.txt").write_text("einops\n")
    ensure(project, test=True)
    ensure(project, own=tmp_path)
    assert ensure(project) == ["requirements.txt", "pack"]
    assert ensure(project) == []
    assert ensure(project, test=True) == ["requirements.txt", "requirements-test.txt", "pack"]


def test_moved_project_installs_the_pack_again(project, tmp_path, monkeypatch):
    ensure(project)
    monkeypatch.setattr(environment, "ROOT", tmp_path / "moved")
    assert ensure(project) == ["pack"]
    assert ensure(project) == []


def test_torch_index_is_kept_until_another_is_set(project, monkeypatch):
    used: list[str] = []
    monkeypatch.setattr(environment, "_install", lambda files, index: used.append(index))
    with monkeypatch.context() as patch:
        patch.setenv("TORCH_INDEX_URL", "https://cpu")
        assert ensure(project) == ["venv", "pack"]
    assert ensure(project) == []
    assert ensure(project, test=True) == ["pack"]
    (environment.REQUIREMENTS / "requirements.txt").write_text("torch==3\n")
    assert ensure(project) == ["venv", "pack"]
    assert used == ["https://cpu"] * 3
    monkeypatch.setenv("TORCH_INDEX_URL", "https://cu130")
    assert ensure(project) == ["venv", "pack"]


def test_half_made_environment_is_made_anew(project, monkeypatch):
    def cut_off(files, index):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(environment, "_install", cut_off)
        with pytest.raises(KeyboardInterrupt):
            environment.ensure()
    assert ensure(project) == ["venv", "requirements.txt", "pack"]


def test_changed_requirements_make_it_anew(project):
    ensure(project)
    (environment.REQUIREMENTS / "requirements.txt").write_text("torch==3\n")
    assert ensure(project) == ["venv", "requirements.txt", "pack"]


def test_changed_project_installs_the_pack_again(project):
    ensure(project)
    environment.PROJECT.write_text("[project]\nversion = 2\n")
    assert ensure(project) == ["pack"]


def test_hashed_packages_come_first(project):
    (environment.REQUIREMENTS / "requirements-hashed.txt").write_text("tqdm==1 --hash=sha256:0\n")
    assert ensure(project) == ["venv", "requirements-hashed.txt", "requirements.txt", "pack"]


@pytest.mark.parametrize("damage", [b"", b"requirements.txt", b"\xff\x00 \n\n", b"requirements.txt 12\npython"])
def test_damaged_stamp_makes_it_anew(project, damage):
    ensure(project)
    environment.STAMP.write_bytes(damage)
    assert ensure(project) == ["venv", "requirements.txt", "pack"]
    assert ensure(project) == []


def test_leftovers_of_a_killed_installer_are_removed(project):
    leftover = environment.INSTALLER_TMP / "pip-unpack" / "torch.whl"
    leftover.parent.mkdir(parents=True)
    leftover.touch()
    ensure(project)
    assert not leftover.exists()


def test_lost_python_makes_it_anew(project):
    ensure(project)
    environment.PYTHON.unlink()
    assert ensure(project) == ["venv", "requirements.txt", "pack"]


def test_old_python_is_refused(monkeypatch):
    monkeypatch.setattr(environment.sys, "version_info", (3, 9, 0))
    with pytest.raises(LauncherError, match=r"Python 3\.9 is not supported"):
        environment._create()


def test_foreign_environment_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "VENV", tmp_path)
    monkeypatch.setattr(environment, "VENV_MARKER", tmp_path / "no such file")
    with pytest.raises(LauncherError, match="not made by run.py"):
        environment._create()
    assert tmp_path.exists()


def test_failing_step_says_what_to_try(tmp_path):
    with pytest.raises(LauncherError, match="Making it failed.*Try again"):
        environment.run([tmp_path / "no such program"], "Making it", "Try again.", {})


def test_failed_download_names_the_platforms(monkeypatch):
    monkeypatch.setattr(environment.subprocess, "call", lambda *_, **__: 1)
    with pytest.raises(LauncherError, match=r"run.py supports .*macOS 14 or newer on Apple silicon\. Elsewhere"):
        environment._install([Path("requirements.txt")], "")


@pytest.fixture
def launched(monkeypatch) -> list[list[str]]:
    """Commands that run.py would replace itself by, with the Python of these tests."""
    started: list[list[str]] = []
    monkeypatch.setattr(environment.os, "execv", lambda _, command: started.append(command))
    monkeypatch.setattr(environment.subprocess, "call", started.append)
    monkeypatch.setattr(environment, "PYTHON", sys.executable)
    return started


def test_commands_run_in_utf8(launched):
    """Isolated mode ignores PYTHONUTF8."""
    environment.reexec_in_venv([])
    options = launched[0][: launched[0].index("-m")]
    flags = subprocess.check_output([*options, "-c", "import sys; print(sys.flags)"], text=True)
    assert "isolated=1" in flags and "utf8_mode=1" in flags and "dont_write_bytecode=0" in flags


def test_own_comfyui_brings_its_models_and_stays_as_it_is(launched, comfyui, tmp_path, monkeypatch):
    own = tmp_path / "own"
    own.mkdir()
    for entry in comfyui.iterdir():
        if entry.name not in ("models", "__pycache__"):
            (own / entry.name).symlink_to(entry)
    (own / "extra_model_paths.yaml").write_text(f"mine:\n  base_path: {tmp_path}\n  checkpoints: disk\n")
    files = [own / "models" / "checkpoints" / "inside.safetensors", tmp_path / "disk" / "outside.safetensors"]
    for file in files:
        file.parent.mkdir(parents=True)
        file.touch()
    before = sorted(own.iterdir())
    environment.reexec_in_venv(["train", "motion_pocket", str(tmp_path), "--checkpoint", "none"], own)
    monkeypatch.setenv("COMFYUI_PATH", str(own))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    result = subprocess.run(launched[0], capture_output=True, text=True)
    assert "neither a file nor a name in models/checkpoints" in result.stderr, result.stderr
    assert all(file.name in result.stderr for file in files)
    assert sorted(own.iterdir()) == before
