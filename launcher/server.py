"""Starts ComfyUI through comfy-cli and stops it again. Standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .comfyui import BASE, OUTPUT
from .environment import PYTHON, WORK_DIR, LauncherError, child_environment

START_SECONDS = 600


@dataclass(frozen=True)
class Server:
    url: str
    output: Path
    log: Path

    def warnings(self) -> list[str]:
        """What the pocket model warned of, such as words that it does not know."""
        lines = re.sub(r"\x1b\[[\d;]*m", "", self.log.read_text("utf-8", "replace")).splitlines()
        return [line for line in lines if line.startswith("[WARNING] The pocket model")]


def has_nvidia_card() -> bool:
    tool = shutil.which("nvidia-smi")
    return tool is not None and subprocess.run([tool, "-L"], capture_output=True).stdout.startswith(b"GPU")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def running(comfyui: Path, base: Path = BASE, output: Path = OUTPUT, port: int | None = None) -> Iterator[Server]:
    """A ComfyUI server on this machine while the block runs; everything it writes lies in base and output.

    comfyui: its folder, base: the folder with custom_nodes, input and user, output: where videos are saved.
    Raises LauncherError, with the end of the server's log, when it does not answer in START_SECONDS.
    """
    if port and taken(port):
        raise LauncherError(f"Port {port} is taken. Stop the program that uses it, or give another one with --port.")
    port = port or free_port()
    folders = ["--base-directory", base, "--output-directory", output]
    folders += ["--database-url", f"sqlite:///{(base / 'user' / 'comfyui.db').as_posix()}"]
    own = not comfyui.is_relative_to(WORK_DIR)
    if own and "--models-directory" in (comfyui / "comfy" / "cli_args.py").read_text("utf-8"):  # since ComfyUI 0.27
        folders += ["--models-directory", comfyui / "models"]
    device = [] if has_nvidia_card() or sys.platform == "darwin" else ["--cpu"]
    launch = [PYTHON, "-m", "comfy_cli", "--skip-prompt", "--no-json", "--workspace", comfyui, "launch", "--"]
    address = ["--listen", "127.0.0.1", "--port", port, "--disable-auto-launch"]
    command = [str(part) for part in (*launch, *address, *folders, *device)]

    env = child_environment()
    if own:
        env["PYTHONDONTWRITEBYTECODE"] = "1"
    log = base / "user" / f"server_{port}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=env, cwd=WORK_DIR, start_new_session=True
        )
    try:
        server = Server(f"http://127.0.0.1:{port}", output, log)
        _wait(server, process)
        yield server
    finally:
        _stop(process)


def _wait(server: Server, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if get_json(server.url + "/system_stats"):
                return
        if process.poll() is not None:
            raise LauncherError(
                f"ComfyUI stopped while starting (exit code {process.returncode}). {_end_of(server.log)}"
            )
        time.sleep(0.2)
    raise LauncherError(f"ComfyUI did not answer within {START_SECONDS} seconds. {_end_of(server.log)}")


def _end_of(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-30:]
    return f"The end of its log {log}:\n" + "\n".join(lines)


def _stop(process: subprocess.Popen) -> None:
    """comfy-cli and the ComfyUI below it: the whole group, so that no server is left behind."""
    if os.name == "nt":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True)
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
            if not _group_alive(process.pid):
                return


def _group_alive(group: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return False
        time.sleep(0.1)
    return True


def get_json(url: str):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)
