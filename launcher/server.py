"""Start ComfyUI through comfy-cli, and stop it when the block or this process ends. Standard library only."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from . import supervise
from .comfyui import BASE, OUTPUT, models, variables
from .environment import ISOLATED, WORK_DIR, LauncherError
from .robust import keep_newest

START_SECONDS = 600
STOP_SECONDS = 40
"""Time to wait for the supervisor in seconds: longer than launcher.supervise needs."""

FIND_GPU = """
import sys, torch
sys.exit(not any(kind.is_available() for kind in (torch.cuda, torch.backends.mps, torch.xpu)))
"""

KEPT_LOGS = 50

PACK_MARK = "Emu Video: "
"""Start of every log message of the pack."""


@dataclass(frozen=True)
class Server:
    url: str
    output: Path
    log: Path
    process: subprocess.Popen

    def wait(self) -> NoReturn:
        """Wait until Ctrl-C. Raises LauncherError with the end of the log if ComfyUI ends before."""
        while True:
            self.check("ComfyUI stopped")
            time.sleep(1)  # process.wait() would not react to Ctrl-C on Windows

    def check(self, problem: str) -> None:
        """Raise LauncherError with this problem and the end of the log if ComfyUI is not running."""
        if self.process.poll() is not None:
            raise LauncherError(f"{problem} (exit code {self.process.returncode}). {_end_of(self.log)}")

    def warnings(self) -> list[str]:
        """Return the pack's own warnings so far, such as words that the pocket model does not know."""
        lines = re.sub(r"\x1b\[[\d;]*m", "", self.log.read_text("utf-8", "replace")).splitlines()
        marked = (line.partition(PACK_MARK) for line in lines if line.startswith("[WARNING]"))
        return list(dict.fromkeys(text for _, mark, text in marked if mark))


def has_gpu() -> bool:
    """Return whether the installed PyTorch finds a GPU. Asked in another process, which gives the memory back."""
    return subprocess.call([sys.executable, *ISOLATED, "-c", FIND_GPU], stderr=subprocess.DEVNULL) == 0


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
    if "--models-directory" in (comfyui / "comfy" / "cli_args.py").read_text("utf-8"):  # since ComfyUI 0.27
        folders += ["--models-directory", models(comfyui, base)]
    device = [] if has_gpu() else ["--cpu"]
    launch = [sys.executable, "-m", "comfy_cli", "--skip-prompt", "--no-json", "--workspace", comfyui, "launch", "--"]
    address = ["--listen", "127.0.0.1", "--port", port, "--disable-auto-launch", "--preview-method", "auto"]
    command = [str(part) for part in (*launch, *address, *folders, *device)]

    log = base / "user" / f"server_{port}.log"
    keep_newest(log.parent.glob("server_*.log"), KEPT_LOGS)
    supervised = [sys.executable, *ISOLATED, str(Path(supervise.__file__).resolve()), str(temp), *command]
    with log.open("wb") as file:
        process = subprocess.Popen(
            supervised,
            stdin=subprocess.PIPE,  # ends when this process does, however that happens
            stdout=file,
            stderr=subprocess.STDOUT,
            env=variables(comfyui),
            cwd=WORK_DIR,
            start_new_session=True,
        )
    try:
        server = Server(f"http://127.0.0.1:{port}", output, log, process)
        _wait(server)
        yield server
    finally:
        _stop(process)


def _wait(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if get_json(server.url + "/system_stats"):
                return
        server.check("ComfyUI stopped while starting")
        time.sleep(0.2)
    raise LauncherError(f"ComfyUI did not answer within {START_SECONDS} seconds. {_end_of(server.log)}")


def _end_of(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").splitlines()[-30:]
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
    """Return the JSON that a server on this machine answers. A proxy would not reach it."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, timeout=60) as answer:
        return json.load(answer)
