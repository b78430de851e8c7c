"""The measurement of long videos: the graph that it makes of the shipped one, and what it reads."""

import numpy as np
from emu_video.pocket.evaluate import extension as measured
from emu_video.pocket.world import render_clips, sample_clips, showing


def test_every_extension_goes_on_from_the_video_before():
    (chain,) = measured.chains(seed=3, count=1)
    graph = measured.graph(chain, seed=5, known=2).nodes
    saved = [graph[f"clip {i}"]["inputs"]["images"][0] for i in range(6)]
    joined = None
    seeds = {node["inputs"]["seed"] for node in graph.values() if "seed" in node["inputs"]}
    assert len(seeds) == 7  # of the first frame and of six clips
    for decode, text in zip(saved[1:], chain["texts"][1:], strict=True):
        sampler = graph[graph[decode]["inputs"]["samples"][0]]
        extend_id = sampler["inputs"]["latent"][0]
        extend = graph[extend_id]["inputs"]
        joins = {k: n["inputs"]["layout"][0] for k, n in graph.items() if n["class_type"] == "EmuVideoJoin"}
        (join,) = (key for key, layout in joins.items() if layout == extend_id)
        assert extend["known"] == 2 and graph[extend["positive"][0]]["inputs"]["text"] == text
        assert extend["video"] == graph[join]["inputs"]["frames"] == [joined or saved[0], 0]
        assert graph[join]["inputs"]["images"] == [decode, 0]
        joined = join


def test_what_is_read_of_a_video_that_goes_to_and_fro():
    """One clip of the world, forward and backward in turn; the last but one goes on three pixels beside, and stands."""
    (clip,) = sample_clips(11, 1, scenes=showing("moving right"))
    body = clip.bodies[0]
    frames = render_clips([clip])[0][0].movedim(1, -1).numpy()
    chain = {"motions": ["moving right", "moving left"] * 3, "colour": body.colour, "shape": body.shape}
    still = np.roll(frames[:1], 3, 2).repeat(8, 0)
    there, back = frames, frames[::-1]
    row, video = measured.judge(chain, [there, back, there, back, still, there[:1].repeat(8, 0)], known=1)
    assert len(video) == 8 + 5 * 7 and row["first"]
    assert [e["read"] for e in row["extensions"]] == ["moving left", "moving right", "moving left", "still", "still"]
    assert [e["motion"] for e in row["extensions"]] == [True, True, True, False, False]
    assert all(e["colour"] and e["shape"] and e["present"] for e in row["extensions"])
    np.testing.assert_allclose([e["jump"] for e in row["extensions"]], [0, 0, 0, 3, 3], atol=0.1)
    assert row["drift"] < 1
