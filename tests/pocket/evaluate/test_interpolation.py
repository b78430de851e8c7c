"""The scores of interpolated frames on videos whose faults are known, and what is measured."""

import numpy as np
import pytest
from emu_video.pocket.evaluate.interpolation import KINDS, chosen_clips, graph, simpler_ways
from emu_video.pocket.evaluate.interpolation_score import INNER, METHODS, MODEL, SIMPLER, score
from emu_video.pocket.evaluate.interpolation_tables import tables
from emu_video.pocket.model.text_encoder import Vocabulary
from emu_video.pocket.world import GIVEN, render_clips
from emu_video.pocket.world.vocabulary import held_out

NEW = [i for i in range(29) if i % 4]


@pytest.fixture(scope="module")
def clips():
    return chosen_clips(7, 40)


@pytest.fixture(scope="module")
def moving(clips):
    return next(clip for kind, _, clip in clips if kind == "moving right")


def video_of(clip):
    return render_clips([clip])[0][0].movedim(1, -1).numpy()


def scored(clip, truth, video):
    return score(clip, truth, {MODEL: video, METHODS[1]: truth[INNER]})["methods"]


def test_perfect_frames_score_perfectly(moving):
    truth = video_of(moving)
    for result in scored(moving, truth, truth).values():
        assert result["centroid"] == 0 and result["present"] == 1 and result["flicker"] == 0 and result["psnr"] > 70


def test_faults_are_seen(moving):
    truth = video_of(moving)
    shifted = np.roll(truth, 3, axis=1)
    assert scored(moving, truth, shifted)[MODEL]["centroid"] == pytest.approx(3, abs=0.01)
    empty = truth.copy()
    hidden = [4 + i for i in NEW[:7]]  # a third of the new frames
    empty[hidden] = truth[:, :1, :1][hidden]
    assert scored(moving, truth, empty)[MODEL]["present"] == pytest.approx(2 / 3)
    brighter = np.clip(truth.astype(int) + 6, 0, 255).astype(np.uint8)
    pulsing = truth.copy()
    pulsing[1::2] = brighter[1::2]
    every, other = (scored(moving, truth, video)[MODEL]["flicker"] for video in (brighter, pulsing))
    assert other > 1.5 * every > 0  # its given frames are put back, so a steady error shows at these alone
    result = score(moving, truth, {MODEL: brighter})
    assert 30 < result["given"] < 40 and 30 < result["outer"]["psnr"] < 40 and result["outer"]["centroid"] < 0.5


def test_crossing_shapes_are_told_apart(clips):
    clip = next(clip for kind, _, clip in clips if kind == "crossing")
    truth = video_of(clip)
    swapped = video_of(clip)[::-1]
    assert scored(clip, truth, truth)[MODEL]["centroid"] == 0
    assert scored(clip, truth, swapped)[MODEL]["centroid"] > 10


def test_simpler_ways(moving):
    truth = video_of(moving)
    given = truth[list(GIVEN)]
    ways = simpler_ways(given)
    assert tuple(ways) == SIMPLER
    for video in ways.values():
        assert video.shape == (29, *truth.shape[1:]) and np.array_equal(video[::4], given)
    assert np.array_equal(ways["repetition"][:4], given[[0, 0, 0, 0]])
    middle = (given[0].astype(float) + given[1]) / 2
    assert np.abs(ways["blending"][2] - middle).max() <= 0.5
    result = score(moving, truth, {MODEL: truth, **ways})["methods"]
    assert result["optical flow"]["centroid"] < result["repetition"]["centroid"]
    assert result["repetition"]["psnr"] < result["optical flow"]["psnr"] < result[MODEL]["psnr"]


def test_clips_are_balanced_and_repeatable(clips):
    vocabulary = Vocabulary()
    assert [clip.caption for _, _, clip in clips] == [clip.caption for _, _, clip in chosen_clips(7, 40)]
    assert [kind for kind, _, _ in clips[:20]] == [kind for kind in KINDS for _ in range(2)]
    for i, (_, unseen, clip) in enumerate(clips):
        assert unseen == (i % 2 == 1) == any(held_out(b.colour, b.shape, b.motion) for b in clip.bodies)
        assert vocabulary.unknown(clip.caption) == [] and len(clip.light) == 37
        assert all(f"{b.colour} {b.shape}" in clip.caption for b in clip.bodies)
        assert len({clip.background, *(b.colour for b in clip.bodies)}) == 1 + len(clip.bodies)


def test_graph_is_the_shipped_one_fed_with_files():
    files = [f"{i}.png" for i in range(8)]
    workflow = graph("a red circle still", files, seed=9, settings={"steps": 3, "noise_level": 0}).nodes
    by_type = {}
    for key, node in workflow.items():
        by_type.setdefault(node["class_type"], []).append((key, node["inputs"]))
    assert not by_type.keys() & {"SaveVideo", "CreateVideo"} and len(by_type["PreviewImage"]) == 1
    ((_, conditioning),) = by_type["EmuVideoInterpolation"]
    assert conditioning["noise_level"] == 0 and conditioning["seed"] == 9
    order, batch = [], conditioning["frames"][0]
    while workflow[batch]["class_type"] == "ImageBatch":
        order.append(workflow[batch]["inputs"]["image2"][0])
        batch = workflow[batch]["inputs"]["image1"][0]
    loaded = [workflow[key]["inputs"]["image"] for key in (batch, *reversed(order))]
    assert loaded == files
    assert {inputs["steps"] for _, inputs in by_type["EmuVideoSampler"]} > {3}  # the video step is not this one
    ((join, inputs),) = by_type["EmuVideoJoin"]
    assert "frames" not in inputs and workflow["frames"]["inputs"]["images"] == [join, 0]


def test_tables():
    def row(kind, unseen, centroid):
        methods = {m: {"centroid": centroid, "psnr": 30.0, "present": 1.0, "flicker": 0.5} for m in METHODS}
        outer = {"centroid": None, "psnr": 20.0, "present": 1.0}
        return {"kind": kind, "unseen": unseen, "methods": methods, "given": 40.0, "outer": outer}

    text = "\n".join(
        tables([row("still", False, 9.0), row("spinning", False, 1.0), row("spinning", True, 2.0)]).values()
    )
    assert "| spinning | 2 | 1.50 ± 6.35 |" in text and "| all that move | 2 | 1.50 ± 6.35 |" in text
    assert "| of these, held-out | 1 | 2.00 |" in text and "| still | 1 | 9.00" in text
    assert "none" in text
