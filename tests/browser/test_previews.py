"""Pictures of the video on the sampler while it runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

MINUTE = 60_000  # ms
PREVIEWS = """() => { window.previews = 0;
  window.app.api.addEventListener('b_preview', () => { window.previews += 1 }) }"""


@pytest.mark.timeout(1200)
def test_previews_are_shown_while_sampling(template):
    page, problems = template
    page.wait_for_timeout(1500)
    page.evaluate(PREVIEWS)
    page.get_by_test_id("queue-button").click()
    page.wait_for_function("window.previews > 30", timeout=10 * MINUTE)  # 25 steps of the image, then the video's
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "previews.png")
    page.wait_for_function("document.querySelector('video')?.videoWidth > 0", timeout=10 * MINUTE)
    assert not problems
