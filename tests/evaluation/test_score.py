"""Metrics of arms whose videos differ in length, shape and conditioning image."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from emu_video.evaluation.command import FolderArm, evaluate
from emu_video.evaluation.metrics.fidelity import IDENTICAL_ERROR
from emu_video.evaluation.score import Encoders
from emu_video.evaluation.videos import Video, read, write_lossless

IDENTICAL = -10 * np.log10(IDENTICAL_ERROR)  # dB


def texture(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def add(folder: Path, frames: np.ndarray, reference: np.ndarray | None = None) -> FolderArm:
    """Write the video of an arm, and its conditioning image beside it."""
    write_lossless(folder / "v_0.mkv", Video(frames, 8.0))
    if reference is not None:
        cv2.imwrite(str(folder / "v_0.png"), reference[..., ::-1])
    return FolderArm(folder.name, folder, "")


def compare(folder: Path, *arms: FolderArm) -> dict[str, dict]:
    """Return arm -> entry of its only video in the report."""
    evaluate(arms, folder / "out", prompts=None, seeds=[0], servers=None, encoders=Encoders())
    return json.loads((folder / "out" / "report.json").read_text())["videos"][0]["arms"]


def test_the_first_frame_is_that_of_the_whole_video(tmp_path):
    wide = texture(64, 160)
    arms = [
        add(tmp_path / f"{count}", np.stack([wide[:, 2 * i : 2 * i + 64] for i in range(count)]), wide[:, :64])
        for count in (8, 24)
    ]
    for entry in compare(tmp_path, *arms).values():
        assert entry["measured as"].startswith("8 frames")
        assert entry["metrics"]["psnr"] == pytest.approx(IDENTICAL, abs=0.01) and entry["metrics"]["ssim"] == 1


def test_a_reference_is_cropped_and_scaled_as_its_video(tmp_path):
    image = texture(96, 128)
    wide = add(tmp_path / "wide", image[None, 12:84].repeat(4, 0), image)  # 16:9 of a 4:3 image
    square = add(tmp_path / "square", image[None, :, 16:112].repeat(4, 0), image)
    found = compare(tmp_path, wide, square)
    assert found["wide"]["measured as"] == "4 frames, 72 x 72, 8 fps"
    assert [entry["metrics"]["psnr"] for entry in found.values()] == pytest.approx([IDENTICAL] * 2, abs=0.01)


def test_colour_drift_begins_with_the_video_in_all_arms(tmp_path):
    still = texture(64, 64)[None].repeat(4, 0)
    arms = add(tmp_path / "with", still, np.clip(still[0], 0, 245) + 10), add(tmp_path / "without", still)
    found = compare(tmp_path, *arms)
    assert [entry["metrics"]["colour_drift"] for entry in found.values()] == [0, 0]
    assert "psnr" in found["with"]["metrics"] and "psnr" not in found["without"]["metrics"]


def test_shown_videos_have_the_form_that_was_measured(tmp_path):
    sizes = {"a": 64, "b": 64, "c": 32}
    arms = [add(tmp_path / name, texture(size, size)[None].repeat(4, 0)) for name, size in sizes.items()]
    for chosen, size in ((arms, 32), (arms[:2], 64), (arms, 32)):
        for entry in compare(tmp_path, *chosen).values():
            shown, _ = read(tmp_path / "out" / entry["file"])
            assert shown.shape[1:3] == (size, size) and entry["measured as"] == f"4 frames, {size} x {size}, 8 fps"
