"""The measurement of super-resolution: its graph, its small videos, and how it scores sharp and blurred ones."""

import cv2
import numpy as np
import pytest
from emu_video.evaluation import pictures
from emu_video.pocket.evaluate import super_resolution as measured
from emu_video.pocket.evaluate import super_resolution_own as own
from emu_video.pocket.evaluate import text_to_video
from emu_video.pocket.evaluate.interpolation import through_autoencoder
from emu_video.pocket.evaluate.interpolation_score import CEILING, MODEL
from emu_video.pocket.shipped import SUPER_RESOLUTION_LAYERS
from emu_video.pocket.world import TIMES, sample_clips, showing
from emu_video.pocket.world.edges import edge_width


@pytest.fixture(scope="module")
def clip():
    return sample_clips(4, 1, scenes=showing("moving right"))[0]


def test_all_frames_are_given_to_the_layers():
    graph = measured.graph("a red circle", seed=7, noise_level=50).nodes
    (node,) = [node for node in graph.values() if node["class_type"] == "EmuVideoSuperResolution"]
    inputs = node["inputs"]
    assert (inputs["factor"], inputs["noise_level"], inputs["window"], inputs["seed"]) == (2, 50, 8, 7)
    (sampler,) = [node["inputs"] for node in graph.values() if node["class_type"] == "EmuVideoSampler"]
    assert (sampler["steps"], sampler["text_guidance"]) == (8, 1.0)
    assert "image" not in inputs and inputs["frames"] == ["frames to 7", 0]
    images = [node["inputs"]["image"] for node in graph.values() if node["class_type"] == "LoadImage"]
    assert images == [measured.input_name(i) for i in range(len(TIMES))]
    (loader,) = [node for node in graph.values() if node["class_type"] == "EmuVideoLoadTemporalLayers"]
    assert loader["inputs"]["temporal_layers"] == SUPER_RESOLUTION_LAYERS.name


def test_own_videos_go_through_the_shipped_graph_and_then_become_larger():
    (prompt,) = text_to_video.prompts(1, 1)
    graph = own.graph(prompt, 3)
    assert graph.inputs("Large conditioning")["frames"] == graph.inputs("frames")["images"]
    assert graph.inputs("Large sampler")["steps"] == 8 and graph.inputs("Emu Video Sampler")["steps"] == 12
    assert graph.inputs("Large sampler")["latent"] == ["Large conditioning", 3]
    assert graph.inputs("Large sampler")["model"] == graph.inputs("Large conditioning")["model"] == ["Large layers", 0]
    assert graph.inputs("large")["images"] == ["Match", 0]
    assert graph.inputs("Match")["images"] == ["Large frames", 0]
    assert graph.inputs("Match")["small"] == graph.inputs("frames")["images"]
    assert graph.nodes[graph.inputs("Large conditioning")["positive"][0]]["inputs"]["text"] == [graph.id("Prompt"), 0]


def test_small_and_large_videos_are_read(clip):
    truth = measured.true_frames(clip)
    body = clip.bodies[0]
    prompt = {"colour": body.colour, "shape": body.shape, "motion": body.motion}
    saved = {"frames": list(measured.made_smaller(truth, 0, 0)), "large": list(truth[::-1])}
    row, _ = own.judge(prompt, {name: [pictures.encode(f) for f in frames] for name, frames in saved.items()})
    assert row["small"]["motion"] and not row["large"]["motion"] and row["large"]["shape"]
    assert row["large"]["roundness"] < row["small"]["roundness"] < 0.02
    assert "| large | 100.0%" in own.table([row]) and "| 0.0% (" in own.table([row])


def test_small_videos_are_means_and_their_corruption_has_its_strength(clip):
    truth = measured.true_frames(clip)
    assert truth.shape == (8, 256, 256, 3)
    small = measured.made_smaller(truth, 0, 0)
    assert small.shape == (8, 128, 128, 3)
    boxes = truth.reshape(8, 128, 2, 128, 2, 3).mean((2, 4))
    assert np.abs(small - boxes).max() <= 0.5
    grey = np.full_like(truth, 128)
    assert abs(measured.made_smaller(grey, 10, 0).std() - 10) < 0.3


def test_edges_have_their_width(clip):
    frame = measured.true_frames(clip)[0]
    assert 0.6 < edge_width(frame) < 1.1
    for sigma in (1.0, 2.0, 4.0):  # a step blurred by a Gaussian rises from 10 to 90 % over 2.56 sigma
        assert edge_width(cv2.GaussianBlur(frame, (0, 0), sigma)) == pytest.approx(2.56 * sigma, rel=0.15)
    assert np.isnan(edge_width(np.full_like(frame, 100)))


def test_match_small_video_corrects_the_autoencoder(clip):
    """After the correction its frames are nearer to the truth than before, and than bicubic interpolation."""
    truth = measured.true_frames(clip)
    row, _ = measured.judge(clip, truth, measured.made_smaller(truth, 0, 0), through_autoencoder(truth))
    plain, after, bicubic = (row["methods"][name]["psnr"] for name in (MODEL, measured.MATCHED, "bicubic"))
    print(f"autoencoder {plain:.1f} dB, after Match Small Video {after:.1f} dB, bicubic {bicubic:.1f} dB")
    assert after > max(plain, bicubic) + 2


def test_scores_of_a_perfect_and_of_a_blurred_video(clip):
    truth = measured.true_frames(clip)
    row, _ = measured.judge(clip, truth, measured.made_smaller(truth, 0, 0), truth)
    perfect, bicubic = row["methods"][MODEL], row["methods"]["bicubic"]
    assert perfect["psnr"] > 70 and perfect["ssim"] > 0.999 and perfect["flicker"] == 0 and perfect["read"]
    assert bicubic["psnr"] < 50 and bicubic["edge"] > 1.5 * perfect["edge"] and bicubic["read"]
    assert row["methods"]["truth"]["edge"] == perfect["edge"] and 25 < row["methods"][CEILING]["psnr"] < 60
    darker, _ = measured.judge(clip, truth, measured.made_smaller(truth, 0, 0), (truth * 0.97).astype(np.uint8))
    plain, after = (darker["methods"][name] for name in (MODEL, measured.MATCHED))
    assert after["psnr"] > plain["psnr"] + 5 and after["edge"] == pytest.approx(perfect["edge"], rel=0.1)
    rows = {
        f"{clip}, {level}, {corruption}": row | {"clip": clip, "level": level, "corruption": corruption}
        for clip in (0, 1)
        for level in measured.LEVELS
        for corruption in measured.CORRUPTIONS
        if clip == 0 or (level, corruption) == (own.noise_level(), 0)
    }
    tables = measured.tables(rows)
    assert "| 2 clips | PSNR, dB |" in tables["super_resolution"]
    grid = tables["super_resolution crossover"]
    assert "| corruption, of 255 | noise level 0 | noise level 100 | noise level 250 | bicubic |" in grid
