"""The pack in servers of older ComfyUIs: it loads, and the smoke graph makes the same videos on all of them.

COMFYUI_VERSIONS=all tries every version of versions.py; without it the oldest one and the one at hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from emu_video.launcher.client import execute, saved_files
from emu_video.launcher.comfyui import PACK, make_base
from emu_video.launcher.server import Server, get_json, running
from emu_video.tests.compatibility.graph import FRAMES, smoke_graph
from emu_video.tests.compatibility.versions import AT_HAND, fetch, wanted

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module", params=wanted())
def version(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def old_or_new(version, request, tmp_path_factory) -> Iterator[Server]:
    """A server of that version with the pack."""
    if version == AT_HAND:
        yield request.getfixturevalue("server")
        return
    room = tmp_path_factory.mktemp("comfyui")
    with running(fetch(version), make_base(room, room / "output"), room / "output") as server:
        yield server


def frames(file: Path) -> np.ndarray:
    """[frames, height, width, 3] in 0..255."""
    with av.open(str(file)) as video:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])


def videos(server: Server) -> dict[str, np.ndarray]:
    files = saved_files(asyncio.run(execute(server.url, smoke_graph(), lambda *_: None)), server.output)
    return {name: frames(next(file for file in files if file.name.startswith(name))) for name in FRAMES}


@pytest.fixture(scope="module")
def made_at_hand(server) -> dict[str, np.ndarray]:
    return videos(server)


@pytest.fixture(scope="module")
def made(old_or_new, version, request) -> dict[str, np.ndarray]:
    return request.getfixturevalue("made_at_hand") if version == AT_HAND else videos(old_or_new)


def test_version_is_the_one_asked_for(old_or_new, version):
    running_version = get_json(old_or_new.url + "/system_stats")["system"]["comfyui_version"]
    assert version in (running_version, AT_HAND)


def test_pack_loads_whole(old_or_new, pack):
    log = old_or_new.log.read_text("utf-8", "replace")
    assert not [line for line in log.splitlines() if PACK in line and ("FAILED" in line or "Error" in line)]
    known = get_json(old_or_new.url + "/object_info")
    assert {name for name in known if name.startswith("EmuVideo")} == set(pack)


def test_smoke_graph(made):
    assert {name: video.shape for name, video in made.items()} == {
        name: (count, 128, 128, 3) for name, count in FRAMES.items()
    }
    assert np.array_equal(made["all_in_one"], made["in_parts"])


def test_same_videos_as_the_comfyui_at_hand(made, version, made_at_hand):
    if version == AT_HAND:
        pytest.skip("it is the one")
    for name, expected in made_at_hand.items():
        difference = np.abs(made[name].astype(float) - expected).mean()
        assert difference < 0.5, f"{name}: {difference:.2f} of 255 from the video of the ComfyUI at hand"
