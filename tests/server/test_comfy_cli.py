"""The same server driven by the tools that others use: comfy-cli, and run.py itself."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from emu_video.launcher.environment import ROOT, child_environment
from emu_video.launcher.server import free_port, taken
from emu_video.tests.graphs import shipped


def comfy(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "comfy_cli", "--skip-prompt", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=child_environment(), cwd=ROOT)


def test_comfy_run(server, tmp_path):
    graph = shipped("text_to_video_pocket")
    graph.set_everywhere(steps=2)
    graph.inputs("Save Video")["filename_prefix"] = "by_comfy_cli"
    file = tmp_path / "workflow.json"
    file.write_text(json.dumps(graph.nodes))
    address = urlsplit(server.url)
    options = ["--wait", "--host", address.hostname, "--port", address.port, "--timeout", 600]
    result = comfy("--no-json", "run", "--workflow", file, *options)
    assert result.returncode == 0, result.stdout + result.stderr
    assert list(Path(server.output).glob("by_comfy_cli*.mp4"))


def test_comfy_node_validate():
    result = comfy("--no-json", "node", "validate")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "warning" not in (result.stdout + result.stderr).lower()


@pytest.mark.timeout(1800)
def test_demo_prints_the_path_of_the_video(comfyui):
    """run.py as a newcomer calls it, with a ComfyUI at hand; it leaves no server behind."""
    command = [sys.executable, "run.py", "demo", "a green square moving up", "--seed", "3"]
    result = subprocess.run(
        [*command, "--comfyui", str(comfyui)], capture_output=True, text=True, cwd=ROOT, env=child_environment()
    )
    assert result.returncode == 0, result.stdout + result.stderr
    file = Path(result.stdout.splitlines()[-1])
    assert file.suffix == ".mp4" and file.read_bytes()[4:8] == b"ftyp"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", ["SIGHUP", "SIGKILL"])
def test_serve_leaves_no_server_behind(comfyui, number):
    """The terminal is closed, or run.py is killed: the port is free again."""
    port = free_port()
    command = [sys.executable, "-I", "-u", "-m", "emu_video.launcher", "serve", "--port", str(port)]
    env = child_environment() | {"COMFYUI_PATH": str(comfyui), "BROWSER": "true"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=env, cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509 (nohup ignores it in all children)
    ) as serve:  # fmt: skip
        assert serve.stdout is not None
        lines = iter(serve.stdout.readline, "")
        assert any(f":{port}/" in line for line in lines)
        assert taken(port)
        serve.send_signal(getattr(signal, number))
    while taken(port):
        time.sleep(0.1)
