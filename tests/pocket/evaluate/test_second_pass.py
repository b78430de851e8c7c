"""The second pass of the pocket: its graph, and what is said about two passes that are alike or differ."""

import numpy as np
import pytest
from emu_video.pocket.evaluate import second_pass, text_to_video
from emu_video.pocket.world import render_clips, sample_clips, showing


@pytest.mark.parametrize("way", second_pass.WAYS)
def test_the_enlarged_video_is_sampled_again(way):
    (prompt,) = text_to_video.prompts(7, 1)
    graph = second_pass.graph(prompt, 3, way, 0.4)
    second = graph.inputs("Second pass")
    assert (second["denoise"], second["seed"]) == (0.4, 3)
    assert [second[name] for name in ("positive", "negative", "latent_image")] == [
        ["Resize known frames", output] for output in (0, 1, 3)
    ]
    assert second["model"] == graph.inputs("EmuVideoSampler")["model"]
    assert graph.source("Resize known frames", "latent") == ("Upscale latent" if way == "latents" else "Encode frames")
    assert graph.inputs("frames")["images"] == ["Decode second pass", 0]
    assert graph.source("first pass", "images") != "Decode second pass"


def test_without_denoise_the_video_is_enlarged_alone():
    (prompt,) = text_to_video.prompts(7, 1)
    graph = second_pass.graph(prompt, 3, "latents", 0.0)
    assert not graph.matches("Second pass") and graph.source("Decode second pass", "samples") == "Upscale latent"


def test_distances_are_in_pixels_of_the_first_pass():
    clips = sample_clips(4, 1, scenes=showing("moving right"))
    small, large = (render_clips(clips, size)[0][0].movedim(1, -1).numpy() for size in (128, 192))
    same = second_pass.judge(small, large)
    assert same["moved"] < 0.2 and same["colour"] and same["shape"] and same["motion"]
    away = second_pass.judge(small, np.roll(large, 6, axis=1))
    assert away["moved"] == pytest.approx(4, abs=0.5) and away["motion"]
    gone = second_pass.judge(small, np.repeat(large[:1], len(large), 0))
    assert not gone["motion"]
    rows = [{"way": "latents", "denoise": 0.4, **each} for each in (same, gone)]
    assert "| latents | 0.4 |" in second_pass.table(rows) and "| 50% |" in second_pass.table(rows)
