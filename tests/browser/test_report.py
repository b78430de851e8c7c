"""The report of a comparison, opened from its file: videos play in step, the table sorts, the filter hides."""

from __future__ import annotations

import numpy as np
import pytest
from emu_video.evaluation.command import FolderArm, evaluate
from emu_video.evaluation.score import Encoders
from emu_video.evaluation.videos import Video, write_mp4


@pytest.fixture
def report(tmp_path):
    """Two arms, three prompts, two seeds; the second arm moves more."""
    for arm, step in (("slow", 1), ("fast", 4)):
        for prompt in range(3):
            for seed in range(2):
                frames = np.full((16, 96, 128, 3), 50 + 30 * prompt, np.uint8)
                for i, frame in enumerate(frames):
                    x = 4 + step * i + 3 * seed
                    frame[30:60, x : x + 30] = (220, 90, 40)
                write_mp4(tmp_path / arm / f"{prompt}_{seed}.mp4", Video(frames, 8.0))
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("id,prompt\n0,a red box </script><b>x</b>\n1,a blue box\n2,a box & a ball\n")
    arms = [FolderArm(arm, tmp_path / arm, f"folder {arm}") for arm in ("slow", "fast")]
    return evaluate(
        arms, tmp_path / "out", prompts=prompts, seeds=[0], servers=None, encoders=Encoders(), notes=["A note."]
    )


def test_report_works_without_a_server(page, report, tmp_path):
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(report.as_uri())
    assert page.locator("#videos .row").count() == 6 and page.locator("#videos video").count() == 12
    assert page.locator("#summary tbody tr").count() >= 7 and page.locator("#summary svg").count() >= 7
    assert page.locator("#videos").inner_text().count("a red box </script><b>x</b>") == 2
    assert page.locator("#notes li").all_inner_texts()[0] == "A note."

    page.set_default_timeout(60_000)
    page.locator("#controls").evaluate("e => e.scrollIntoView()")
    playing = "[...document.querySelectorAll('video')].filter(v => v.readyState >= 2 && !v.paused)"
    page.wait_for_function(f"{playing}.length >= 2 && {playing}.every(v => v.currentTime > 0.2)")
    page.wait_for_timeout(1500)
    page.wait_for_function(  # at the end of its loop a video has no picture for a moment
        f"{playing}.length >= 2 && Math.max(...{playing}.map(v => v.currentTime))"
        f" - Math.min(...{playing}.map(v => v.currentTime)) < 0.25"  # two frames at 8 a second
    )

    page.locator("#play").click()
    page.locator("#time").fill("500")
    loaded = "[...document.querySelectorAll('video')].filter(v => v.readyState >= 2)"
    page.wait_for_function(f"{loaded}.every(v => v.paused && !v.seeking && Math.abs(v.currentTime - 1) < 0.03)")
    page.screenshot(path=tmp_path / "report.png", full_page=True)

    column = page.locator("#scores thead th").all_inner_texts().index("motion score, squared pixels")
    heading = page.locator("#scores thead th").nth(column)
    values = f"[...document.querySelectorAll('#scores tbody tr')].map(r => Number(r.cells[{column}].textContent))"
    for direction in (1, -1):
        heading.click()
        found = page.evaluate(values)
        assert len(found) == 12 and [direction * v for v in found] == sorted(direction * v for v in found)
    assert page.locator("#scores tbody tr td:nth-child(2)").all_inner_texts()[:6] == ["fast"] * 6

    page.locator("#filter").fill("Blue")
    assert page.locator("#videos .row:visible").count() == 2
    assert not problems, problems
