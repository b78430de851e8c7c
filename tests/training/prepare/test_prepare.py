"""From a folder of videos to a dataset that the trainer's reader opens."""

import errno
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import PIL.Image
import pytest
import torch
from emu_video.diffusion.resize import upsampled
from emu_video.tests.training.prepare.videos import animate, encoders, moving, sound, write
from emu_video.training.clips import ShardedClips
from emu_video.training.prepare import prepare as module
from emu_video.training.prepare import scenes, shards
from emu_video.training.prepare.prepare import prepare
from emu_video.training.prepare.settings import Settings

pytestmark = pytest.mark.slow

SMALL: dict[str, Any] = {"width": 32, "height": 32}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    videos = tmp_path_factory.mktemp("made")
    for number in range(3):
        write(videos / f"{number}.mp4", moving(24, seed=number))
        (videos / f"{number}.txt").write_text(f"clip number {number}")
    write(videos / "two scenes.mkv", np.concatenate([moving(12, seed=10), moving(12, seed=11)]))
    animate(videos / "animation.gif", moving(8, seed=12))
    (videos / "numbered").mkdir()
    for number, frame in enumerate(moving(8, seed=13)):
        PIL.Image.fromarray(frame).save(videos / "numbered" / f"{number:03}.png")
    write(videos / "short.mp4", moving(4, seed=14))
    sound(videos / "sound.mp4")
    (videos / "broken.mp4").write_bytes(b"nothing" * 100)
    shutil.copy(videos / "0.mp4", videos / "copy of 0.mp4")
    return videos


@pytest.fixture
def folder(made, tmp_path) -> Path:
    """Six good videos, and one of each kind that gives no clip."""
    return shutil.copytree(made, tmp_path / "videos")


def run(folder: Path, out: Path, progress=lambda stage, done, total: None, made_by=None, **settings: Any):
    return prepare(folder, out, made_by or encoders(), Settings(**SMALL | settings), progress)


def test_dataset_is_what_the_trainer_reads(folder, tmp_path):
    prepared = run(folder, tmp_path / "out")
    clips = ShardedClips(tmp_path / "out")
    per_source = Counter(clip["source"] for clip in prepared.index["clips"])
    assert per_source == {"0.mp4": 3, "1.mp4": 3, "2.mp4": 3, "two scenes.mkv": 2, "animation.gif": 1, "numbered": 1}
    assert len(clips) == 13 and clips.frames == 8 and clips.fps == 8 and clips.base == {"name": "pocket", "hash": "0"}
    assert clips.shape(0) == (8, 3, 8, 8)
    number = next(i for i in range(13) if clips.caption(i) == "clip number 1")
    text = encoders().text("clip number 1")
    assert torch.equal(clips[number].text["cross_attn"], text["text"].half().float())
    assert torch.equal(clips[number].text["pooled_output"], text["pooled"].half().float())
    # The empty text has one window, the captions two, so it is repeated.
    assert torch.equal(clips.null["cross_attn"], encoders().text("")["text"].repeat(2, 1).half().float())


def test_latents_are_those_of_the_frames(tmp_path):
    """Without loss in the codec and without resizing, latents are the encoder's of the very frames."""
    frames = moving(20, 32, 32)
    write(tmp_path / "v" / "a.mkv", frames, codec="ffv1", pixels="bgr0")
    run(tmp_path / "v", tmp_path / "out")
    clips = ShardedClips(tmp_path / "out")
    assert [(entry.start, entry.stop) for entry in clips.index.clips] == [(0.25, 1.25), (1.25, 2.25)]
    for number, start in enumerate((2, 10)):
        pictures = torch.from_numpy(frames[start : start + 8]).float() / 255
        assert torch.equal(clips[number].latents, encoders().frames(pictures).half().float())


def test_clips_are_also_encoded_from_a_smaller_version(tmp_path):
    frames = moving(20, 32, 32)
    write(tmp_path / "v" / "a.mkv", frames, codec="ffv1", pixels="bgr0")
    plain = run(tmp_path / "v", tmp_path / "plain").index
    index = run(tmp_path / "v", tmp_path / "out", downscale=2).index
    clips = ShardedClips(tmp_path / "out")
    assert clips.downscale == index["downscale"] == 2 and ShardedClips(tmp_path / "plain").downscale == 1
    assert clips[0].latents.equal(ShardedClips(tmp_path / "plain")[0].latents) and plain["key"] != index["key"]
    small = upsampled(torch.from_numpy(frames[2:10]).float() / 255, 2)
    assert torch.equal(clips[0].upsampled, encoders().frames(small).half().float())
    assert not torch.equal(clips[0].upsampled, clips[0].latents)
    with pytest.raises(ValueError, match="a downscale of 3 needs multiples of 12: use, for example, 36x36"):
        run(tmp_path / "v", tmp_path / "three", downscale=3)


def test_everything_left_out_has_a_reason(folder, tmp_path):
    prepared = run(folder, tmp_path / "out")
    reasons = {note["source"]: note["reason"] for note in prepared.index["notes"] if note["left_out"]}
    assert "0.50 s" in reasons["short.mp4"] and "no video stream" in reasons["sound.mp4"]
    assert "cannot be read" in reasons["broken.mp4"]
    assert reasons["copy of 0.mp4"].startswith("It looks like 0.mp4 at")
    assert all(name in prepared.report for name in reasons)
    assert "13 clips of 8 frames at 8 fps from 6 of 10 videos" in prepared.report
    assert (tmp_path / "out" / "report.md").read_text().strip() == prepared.report


def test_the_report_puts_like_reasons_together(tmp_path):
    still = moving(1).repeat(40, 0)
    for number in range(6):
        write(tmp_path / "v" / f"{number}.mp4", still if number == 0 else moving(8, seed=number))
    prepared = run(tmp_path / "v", tmp_path / "out")
    assert len(prepared.index["notes"]) == 4 + 6
    rows = [line for line in prepared.report.splitlines() if line.startswith("| ") and "mp4" in line]
    assert rows == [
        "| 0.mp4 | 1.00 s and 3 more | It looks like 0.mp4 at 0.00 s. |",
        "| 0.mp4 and 5 more |  | It has no caption, so the empty text is used. |",
    ]


def test_preview_and_contact_sheet_show_the_clips(folder, tmp_path):
    prepared = run(folder, tmp_path / "out")
    with av.open(str(tmp_path / "out" / "shard-00000.mp4")) as container:
        (stream,) = container.streams.video
        frames = [frame for frame in container.decode(stream)]
    assert len(frames) == 13 * 8 and stream.average_rate == 8
    assert all(frames[row * 8].key_frame for row in range(13))
    row = next(clip["row"] for clip in prepared.index["clips"] if clip["source"] == "numbered")
    shown = frames[row * 8 + 5].to_ndarray(format="rgb24")[:256:8, ::8].astype(int)
    true = moving(8, seed=13)[5][:, 8:56]
    assert np.abs(shown - cv2.resize(true, (32, 32), interpolation=cv2.INTER_AREA)).mean() < 14
    assert prepared.sheet.dtype == np.uint8 and prepared.sheet.shape[2] == 3 and prepared.sheet.std() > 30
    assert (tmp_path / "out" / "contact_sheet.png").is_file()


def test_buckets_are_shards_of_their_own(tmp_path):
    write(tmp_path / "v" / "wide.mp4", moving(8, 128, 64))
    write(tmp_path / "v" / "tall.mp4", moving(8, 64, 128, seed=1))
    prepared = run(tmp_path / "v", tmp_path / "out", width=128, height=128, buckets=True)
    clips = ShardedClips(tmp_path / "out")
    assert {clips.shape(0), clips.shape(1)} == {(8, 3, 24, 40), (8, 3, 40, 24)}
    assert len(prepared.index["shards"]) == 2


def test_shards_are_bounded_and_all_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "CLIPS", 2)
    write(tmp_path / "v" / "a.mp4", moving(40, seed=5))
    prepared = run(tmp_path / "v", tmp_path / "out")
    assert [shard["clips"] for shard in prepared.index["shards"]] == [2, 2, 1]
    assert len([ShardedClips(tmp_path / "out")[number] for number in range(5)]) == 5


class Stopped(Exception):
    pass


def stop_at(stage: str, count: int):
    def progress(at: str, done: int, total: int) -> None:
        if (at, done) == (stage, count):
            raise Stopped

    return progress


@pytest.mark.parametrize(("stage", "count"), [("scan", 3), ("encode", 1), ("encode", 5), ("encode", 13)])
def test_a_stopped_run_goes_on_and_ends_the_same(folder, tmp_path, monkeypatch, stage, count):
    monkeypatch.setattr(shards, "CLIPS", 4)
    whole = run(folder, tmp_path / "whole")
    with pytest.raises(Stopped):
        run(folder, tmp_path / "out", stop_at(stage, count))
    assert not (tmp_path / "out" / "index.json").exists()
    assert not list((tmp_path / "out").glob(".*"))
    encoded = []
    counting = encoders(frames=lambda pixels: encoded.append(1) or encoders().frames(pixels))
    again = run(folder, tmp_path / "out", made_by=counting)
    assert again.index == whole.index
    assert len(encoded) == 13 - (count // 4 * 4 if stage == "encode" and count < 13 else 12 if count == 13 else 0)
    for shard in whole.index["shards"]:
        files = [(tmp_path / name / shard["file"]).read_bytes() for name in ("whole", "out")]
        assert files[0] == files[1]


def test_a_second_run_encodes_nothing(folder, tmp_path):
    first = run(folder, tmp_path / "out")
    scans = (tmp_path / "out" / "scans.jsonl").read_bytes()

    def refuse(pixels):
        raise AssertionError("encoded again")

    again = run(folder, tmp_path / "out", made_by=encoders(frames=refuse))
    assert again.index == first.index and (tmp_path / "out" / "scans.jsonl").read_bytes() == scans


@pytest.mark.parametrize("change", ["setting", "caption", "file", "encoder"])
def test_what_made_the_shards_is_their_key(folder, tmp_path, change):
    first = run(folder, tmp_path / "out")
    settings, made_by = {}, encoders()
    if change == "setting":
        settings = {"width": 64}
    elif change == "caption":
        (folder / "1.txt").write_text("another caption")
    elif change == "file":
        write(folder / "1.mp4", moving(24, seed=20))
    else:
        made_by = encoders(identity={"vae": "others"})
    again = run(folder, tmp_path / "out", made_by=made_by, **settings)
    fresh = run(folder, tmp_path / "fresh", made_by=made_by, **settings)
    assert again.index == fresh.index and again.index["key"] != first.index["key"]
    stored = [(tmp_path / name / "shard-00000.safetensors").read_bytes() for name in ("out", "fresh")]
    assert stored[0] == stored[1]


def test_shards_that_are_no_longer_needed_are_removed(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "CLIPS", 4)
    run(folder, tmp_path / "out")
    run(folder, tmp_path / "out", per_video=1)
    left = {file.name for file in (tmp_path / "out").glob("shard-*")}
    assert left == {f"shard-0000{n}.{kind}" for n in (0, 1) for kind in ("safetensors", "mp4")}


def test_a_damaged_shard_is_made_again(folder, tmp_path):
    first = run(folder, tmp_path / "out")
    shard = tmp_path / "out" / "shard-00000.safetensors"
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) // 3])
    assert run(folder, tmp_path / "out").index == first.index and shard.read_bytes() == data


def test_latents_that_are_not_finite_leave_their_clip_out(folder, tmp_path):
    calls = []

    def some_nan(pixels):
        calls.append(1)
        return encoders().frames(pixels) * (float("nan") if len(calls) == 2 else 1)

    prepared = run(folder, tmp_path / "out", made_by=encoders(frames=some_nan))
    assert len(prepared.index["clips"]) == len(ShardedClips(tmp_path / "out")) == 12
    assert any("NaN or infinity" in note["reason"] for note in prepared.index["notes"])
    with pytest.raises(ValueError, match="All clips were left out.*NaN or infinity"):
        run(folder, tmp_path / "none", made_by=encoders(frames=lambda pixels: encoders().frames(pixels) * float("nan")))


def test_long_captions_are_left_out(folder, tmp_path):
    (folder / "1.txt").write_text("far too long a caption for three windows of eight")
    prepared = run(folder, tmp_path / "out")
    assert {note["source"] for note in prepared.index["notes"] if "windows" in note["reason"]} == {"1.mp4"}


def test_scores_are_asked_for_and_kept(folder, tmp_path):
    brightness = lambda picture, caption="": float(picture.mean())  # noqa: E731
    made_by = encoders(matching=brightness, aesthetic=brightness)
    prepared = run(folder, tmp_path / "out", made_by=made_by, least_matching=50)
    scores = [clip["matching"] for clip in prepared.index["clips"]]
    assert len(scores) == 7 and all(clip["aesthetic"] == clip["matching"] for clip in prepared.index["clips"])
    left_out = [note for note in prepared.index["notes"] if "does not match its caption" in note["reason"]]
    assert len(left_out) == 6 and all(f"limit {min(scores):.4g}" in note["reason"] for note in left_out)
    with pytest.raises(ValueError, match="needs a CLIP vision model"):
        run(folder, tmp_path / "none", least_matching=50)


def test_one_clip_is_enough_and_none_is_refused(tmp_path):
    write(tmp_path / "v" / "a.mp4", moving(8))
    assert len(run(tmp_path / "v", tmp_path / "out").index["clips"]) == 1
    write(tmp_path / "short" / "a.mp4", moving(5))
    with pytest.raises(ValueError, match=r"All clips of the 1 videos were left out. a.mp4: Its longest part is 0.62 s"):
        run(tmp_path / "short", tmp_path / "none")
    with pytest.raises(ValueError, match="multiples of 4: use, for example, 32x32"):
        run(tmp_path / "v", tmp_path / "none", width=33)


def test_a_folder_of_other_files_is_not_written_to(folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="contains files, but no dataset"):
        run(folder, tmp_path / "mine")
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]


def test_a_dataset_inside_the_folder_of_videos_is_not_read(folder):
    first = run(folder, folder / "dataset")
    assert run(folder, folder / "dataset").index == first.index
    other = run(folder, folder / "other", frames=6)
    assert {row["source"] for row in other.index["sources"]} == {row["source"] for row in first.index["sources"]}
    assert any(note["source"] == "dataset" and "is a dataset or a training run" in note["reason"] for note in
               other.index["notes"])  # fmt: skip


def test_the_dataset_of_another_folder_is_not_replaced(folder, tmp_path):
    first = run(folder, tmp_path / "clips")
    other = shutil.copytree(folder, tmp_path / "other" / "videos")
    with pytest.raises(ValueError, match="is the dataset of .*videos, which the clips of .*other"):
        run(other, tmp_path / "clips")
    assert len(ShardedClips(tmp_path / "clips")) == len(first.index["clips"])
    folder.rename(tmp_path / "moved")
    assert len(run(tmp_path / "moved", tmp_path / "clips").index["clips"]) == len(first.index["clips"])


def test_too_little_room_is_said_before_anything_is_encoded(folder, tmp_path, monkeypatch):
    usage = shutil._ntuple_diskusage(2**30, 2**30, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(RuntimeError, match="13 clips need about . MiB, but only 0 MiB are free"):
        run(folder, tmp_path / "out", made_by=encoders(frames=lambda pixels: pytest.fail("encoded")))


def test_a_full_disk_is_a_sentence_and_keeps_what_is_done(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "CLIPS", 4)
    saved = []

    def full(*arguments, **options):
        if len(saved) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        saved.append(1)
        return save_file(*arguments, **options)

    save_file = shards.save_file
    monkeypatch.setattr(shards, "save_file", full)
    with pytest.raises(RuntimeError, match="disk of .* is full.*again to continue"):
        run(folder, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("shard-*.safetensors"))) == 2
    monkeypatch.setattr(shards, "save_file", save_file)
    (tmp_path / "out" / ".shard-00002.safetensors.12.tmp").mkdir()  # as a killed process leaves it
    run(folder, tmp_path / "out")
    assert not list((tmp_path / "out").glob(".*"))
    assert len(ShardedClips(tmp_path / "out")) == 13


def test_missing_scene_detection_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scenedetect", None)
    with pytest.raises(RuntimeError, match="pip install scenedetect-headless"):
        run(folder, tmp_path / "out")
    with pytest.raises(RuntimeError, match="pip install"):
        scenes.check()


def test_progress_counts_every_stage_to_its_end(folder, tmp_path):
    seen = []
    run(folder, tmp_path / "out", lambda *at: seen.append(at))
    assert ("scan", 10, 10) in seen and seen[-1] == ("encode", 13, 13)
    assert [done for stage, done, _ in seen if stage == "encode"] == sorted(d for s, d, _ in seen if s == "encode")


def test_index_has_what_a_person_asks(folder, tmp_path):
    run(folder, tmp_path / "out", stillest=10)
    index = json.loads((tmp_path / "out" / module.INDEX).read_text())
    clip = index["clips"][0]
    assert {"source", "caption", "start", "stop", "motion", "least_motion", "motion_by", "shard", "row"} <= set(clip)
    assert any("almost stops" in note["reason"] for note in index["notes"])
    (source,) = [source for source in index["sources"] if source["source"] == "two scenes.mkv"]
    assert (source["codec"], source["width"], source["frames"], source["scenes"]) == ("h264", 64, 24, 2)
