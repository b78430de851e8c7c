"""A newcomer's way: open the template in ComfyUI's front end, press Run, see the video."""

from __future__ import annotations

import json

import pytest
from emu_video.launcher.environment import ROOT

MINUTE = 60_000  # ms
GRAPH = json.loads((ROOT / "workflows" / "text_to_video_pocket.json").read_text("utf-8"))


@pytest.mark.timeout(1800)
def test_run_shows_the_video(template, tmp_path):
    page, problems = template
    nodes = page.evaluate("window.app.graph.nodes.map(node => ({type: node.type, errors: node.has_errors}))")
    assert len(nodes) == len(GRAPH["nodes"]) and not any(node["errors"] for node in nodes), nodes
    page.evaluate(
        """() => { for (const node of window.app.graph.nodes)
                     for (const widget of node.widgets ?? [])
                       if (widget.name === 'steps') widget.value = 2 }"""
    )
    areas = page.locator("textarea").all()
    (prompt,) = [area for area in areas if area.input_value() == "a red circle moving right"]
    prompt.fill("a blue square moving up")

    page.get_by_test_id("queue-button").click()
    page.wait_for_function("document.querySelector('video')?.videoWidth > 0", timeout=10 * MINUTE)
    page.screenshot(path=tmp_path / "video.png")
    video = page.evaluate("(v => [v.videoWidth, v.videoHeight, v.duration])(document.querySelector('video'))")
    assert video == [128, 128, 1]
    assert not problems
