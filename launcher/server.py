"""Start ComfyUI through comfy-cli, and stop it when the block or this process ends. Standard library only."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import supervise
from .comfyui import BASE, OUTPUT
from .environment import WORK_DIR, LauncherError, child_environment

START_SECONDS = 600
STOP_SECONDS = 40
"""Time to wait for the supervisor in seconds: longer than launcher.supervise needs."""

PACK_MARK = "Emu Video: "
"""Start of every log message of the pack."""


@dataclass(frozen=True)
class Server:
    url: str
    output: Path
    log: Path

    def warnings(self) -> list[str]:
        """Return the pack's own warnings so far, such as words that the pocket model does not know."""
        lines = re.sub(r"\x1b\[[\d;]*m", "", self.log.read_text("utf-8", "replace")).splitlines()
        marked = (line.partition(PACK_MARK) for line in lines if line.startswith("[WARNING]"))
        return list(dict.fromkeys(text for _, mark, text in marked if mark))


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
    """Run a ComfyUI server within a `with` block. It writes only into the folders `base` and `output`.

    comfyui: folder of ComfyUI. base: folder with custom_nodes, input and user. output: folder of the videos.
    Raises LauncherError with the end of the server's log if it does not answer within START_SECONDS.
    """
    if port and taken(port):
        raise LauncherError(
            f"Port {port} is in use. Stop the program that uses it, or choose another port with --port."
        )
    port = port or free_port()
    temp = base / "temp" / str(port)  # a server deletes its temp folder when it starts
    folders = ["--base-directory", base, "--output-directory", output, "--temp-directory", temp]
    folders += ["--database-url", f"sqlite:///{(base / 'user' / 'comfyui.db').as_posix()}"]
    own = not comfyui.is_relative_to(WORK_DIR)
    if own and "--models-directory" in (comfyui / "comfy" / "cli_args.py").read_text("utf-8"):  # since ComfyUI 0.27
        folders += ["--models-directory", comfyui / "models"]
    device = [] if has_nvidia_card() or sys.platform == "darwin" else ["--cpu"]
    launch = [sys.executable, "-m", "comfy_cli", "--skip-prompt", "--no-json", "--workspace", comfyui, "launch", "--"]
    address = ["--listen", "127.0.0.1", "--port", port, "--disable-auto-launch", "--preview-method", "auto"]
    command = [str(part) for part in (*launch, *address, *folders, *device)]

    env = child_environment()
    if own:
        env["PYTHONDONTWRITEBYTECODE"] = "1"
    log = base / "user" / f"server_{port}.log"
    supervised = [sys.executable, "-I", str(Path(supervise.__file__).resolve()), *command]
    with log.open("wb") as file:
        process = subprocess.Popen(
            supervised,
            stdin=subprocess.PIPE,  # ends when this process does, however that happens
            stdout=file,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=WORK_DIR,
            start_new_session=True,
        )
    try:
        server = Server(f"http://127.0.0.1:{port}", output, log)
        _wait(server, process)
        yield server
    finally:
        _stop(process)
        shutil.rmtree(temp, ignore_errors=True)


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
    """End the supervisor, which ends comfy-cli and ComfyUI."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def get_json(url: str):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)
