"""A newcomer's way: open each template in ComfyUI's front end, press Run, see the video."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from emu_video.launcher.comfyui import PACK
from emu_video.launcher.environment import ROOT
from playwright.sync_api import Page

MINUTE = 60_000  # ms
TEMPLATES = sorted((ROOT / "workflows").glob("*.json"))
POCKET = [file for file in TEMPLATES if "Pocket" in file.stem]
VIDEOS = {  # pixels of a side, seconds
    "Text-to-Video-Pocket": (128, 1.0),
    "Text-to-Video-Cascade-Pocket": (128, 37 / 32),
    "Text-to-Video-Super-Resolution-Pocket": (256, 37 / 32),
    "Animate-Image-Pocket": (128, 1.0),
    "Animate-Image-Interpolated-Pocket": (128, 37 / 32),
    "Extend-Three-Prompts-Pocket": (128, 22 / 8),
    "Train-Your-Own-Motion-Pocket": (128, 1.0),
}
SMALLEST_SCALE = 0.575
"""Zoom below which the front end no longer draws text on nodes."""


def open_template(page: Page, address: str, file: Path) -> dict:
    """Open a template and return its graph as saved."""
    graph = json.loads(file.read_text("utf-8"))
    page.goto(f"{address}/?template={file.stem}&source={PACK}")
    page.wait_for_function(
        """nodes => String(nodes.sort()) === String(window.app?.graph?.nodes?.map(n => `${n.id} ${n.type}`).sort())""",
        arg=[f"{node['id']} {node['type']}" for node in graph["nodes"]],
    )
    page.wait_for_timeout(1500)
    return graph


def picture(page: Page, name: str) -> None:
    """Save a screenshot for somebody to look at, where SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


@pytest.mark.timeout(1200)
def test_every_template_opens_readable_and_complete(server, page):
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    scales = {}
    for file in TEMPLATES:
        open_template(page, server.url, file)
        picture(page, file.stem)
        scale, unknown, red = page.evaluate(
            """() => [window.app.canvas.ds.scale,
                      window.app.graph.nodes.filter(node => !window.LiteGraph.registered_node_types[node.type]),
                      window.app.graph.nodes.filter(node => node.has_errors).map(node => node.type)]"""
        )
        scales[file.stem] = scale
        assert not unknown, file.stem
        if file in POCKET:
            assert not red, (file.stem, red)
    assert {name: scale for name, scale in scales.items() if scale < SMALLEST_SCALE} == {}
    assert not problems


@pytest.mark.timeout(1800)
def test_run_shows_the_video(server, page):
    assert VIDEOS.keys() == {file.stem for file in POCKET}
    for file in POCKET:
        open_template(page, server.url, file)
        page.evaluate(
            """() => { for (const node of window.app.graph.nodes)
                         for (const widget of node.widgets ?? [])
                           if (widget.name === 'steps') widget.value = 1
                           else if (widget.name === 'name') widget.value = 'browser' }"""
        )
        page.get_by_test_id("queue-button").click()
        page.wait_for_function(
            "document.querySelector('video')?.videoWidth > 0 || window.app.lastExecutionError", timeout=10 * MINUTE
        )
        assert page.evaluate("window.app.lastExecutionError?.exception_message") is None, file.stem
        picture(page, f"{file.stem} (ran)")
        video = page.evaluate("(v => [v.videoWidth, v.videoHeight, v.duration])(document.querySelector('video'))")
        side, seconds = VIDEOS[file.stem]
        assert video == [side, side, pytest.approx(seconds, abs=0.05)], file.stem


@pytest.mark.timeout(1800)
def test_a_second_run_makes_another_video(template):
    page, problems = template
    seeds = (
        "() => window.app.graph.nodes.flatMap(n => n.widgets ?? []).filter(w => w.name === 'seed').map(w => w.value)"
    )
    page.evaluate(
        """() => { for (const node of window.app.graph.nodes)
                     for (const widget of node.widgets ?? [])
                       if (widget.name === 'steps') widget.value = 1 }"""
    )
    before = page.evaluate(seeds)
    (prompt,) = [area for area in page.locator("textarea").all() if area.input_value() == "a red circle moving right"]
    prompt.fill("a blue square moving up")
    page.get_by_test_id("queue-button").click()
    page.wait_for_function("document.querySelector('video')?.videoWidth > 0", timeout=10 * MINUTE)
    after = page.evaluate(seeds)
    assert len(before) == 2 and all(one != other for one, other in zip(before, after, strict=True))
    assert not problems
