"""Sweeps and comparisons from end to end, on servers without a model."""

import json
from pathlib import Path

import numpy as np
import pytest
from emu_video.evaluation import pool
from emu_video.evaluation.command import FolderArm, evaluate, read_arm
from emu_video.evaluation.graph import Graph
from emu_video.evaluation.prompts import Prompt, read_prompts
from emu_video.evaluation.score import Encoders
from emu_video.evaluation.sweep import GraphArm, Sweep, first_frame_of, same_weights
from emu_video.evaluation.videos import Video, read, write_lossless, write_mp4
from emu_video.launcher.client import ConnectionLost
from emu_video.launcher.environment import ROOT
from emu_video.pocket.shipped import CHECKPOINT
from emu_video.tests.evaluation.fake_comfyui import FakeComfyUI, serving

GRAPH = str(ROOT / "workflows" / "api" / "text_to_video_pocket.json")
PROMPTS = [Prompt("a", "a red circle"), Prompt("b", "a blue square", "a square")]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(pool, "RETURN_SECONDS", 0.5)
    monkeypatch.setattr(pool, "POLL_SECONDS", 0.02)


@pytest.fixture
def arms():
    return [read_arm(["weak", GRAPH]), read_arm(["strong", GRAPH, "Emu Video Sampler.text_guidance=4"])]


def sweep(folder, arms, seeds=(0, 7), prompts=PROMPTS):
    return Sweep(folder, arms, prompts, seeds)


def test_all_arms_get_the_same_prompts_and_seeds(tmp_path, arms):
    server = FakeComfyUI()
    made = sweep(tmp_path, arms)
    with serving(server):
        assert not made.run([server.url])
    seen = {
        (
            graph["3"]["inputs"]["value"],
            graph["4"]["inputs"]["text"] if isinstance(graph["4"]["inputs"]["text"], str) else None,
            graph["13"]["inputs"]["seed"],
            graph["13"]["inputs"]["text_guidance"],
        )
        for graph in server.runs
    }
    texts = [("a red circle", None), ("a blue square", "a square")]
    assert seen == {(*text, seed, guidance) for text in texts for seed in (0, 7) for guidance in (1.0, 4)}
    clips = made.clips()
    assert len(clips) == 8 and all(clip.reference for clip in clips)
    frames, fps = read(clips[1].path)
    assert frames.shape == (8, 64, 64, 3) and fps == 8 and (frames[:, 0, 0] == 7).all()


@pytest.mark.parametrize(("positions", "begins"), [("0, -1", True), (" 0", True), ("2, 0", False), ("05", False)])
def test_known_frames_are_a_reference_if_the_first_one_is_frame_0(positions, begins):
    inputs = {"images": ["1", 0], "positions": positions}
    found = first_frame_of(Graph({"2": {"class_type": "EmuVideoKnownFrames", "inputs": inputs}}))
    assert found == (["1", 0] if begins else None)


@pytest.mark.parametrize(("margin", "begins"), [(0, True), (4, False), (["9", 0], False)])
def test_a_margin_of_interpolation_comes_before_the_first_frame(margin, begins):
    nodes = {
        "2": {"class_type": "EmuVideoFirstFrame", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "EmuVideoInterpolation", "inputs": {"margin": margin}},
    }
    assert first_frame_of(Graph(nodes)) == (["1", 0] if begins else None)


def test_an_image_prompt_with_its_own_text_is_replaced(tmp_path):
    graph = Graph.load(Path(GRAPH))
    graph.inputs("Image prompt")["text"] = "a red star"
    made = sweep(tmp_path, [GraphArm("own", graph, "")], seeds=(0,))
    texts = {job.nodes[graph.id("Image prompt")]["inputs"]["text"] for job in made.jobs.values()}
    assert texts == {"a red circle", "a square"}


def test_connected_seeds_are_set(tmp_path):
    graph = Graph.load(Path(GRAPH))
    seeds = graph.add("Seed", "PrimitiveInt", value=5)
    for node in graph.nodes.values():
        node["inputs"] |= {name: seeds for name in ("seed", "noise_seed") if name in node["inputs"]}
    made = sweep(tmp_path, [GraphArm("linked", graph, "")])
    assert [job.nodes["Seed"]["inputs"]["value"] for job in made.jobs.values()] == [0, 7, 0, 7]
    graph.nodes["Seed"] = {"class_type": "Unknown", "inputs": {}}
    with pytest.raises(ValueError, match="no seed that can be set"):
        sweep(tmp_path, [GraphArm("linked", graph, "")])


def test_what_is_rendered_is_not_rendered_again(tmp_path, arms):
    server = FakeComfyUI()
    with serving(server):
        sweep(tmp_path, arms).run([server.url])
        assert len(server.runs) == 8
        sweep(tmp_path, arms, seeds=(0, 7, 8)).run([server.url])
        assert len(server.runs) == 12
        (tmp_path / "weak" / "a_0.mkv").unlink()
        changed = [arms[0], read_arm(["strong", GRAPH, "Emu Video Sampler.text_guidance=5"])]
        sweep(tmp_path, changed, seeds=(0, 7, 8)).run([server.url])
        assert len(server.runs) == 12 + 1 + 6
        server.models["checkpoints"].append({"name": CHECKPOINT.name, "size": 5, "modified": 1.0})
        sweep(tmp_path, changed, seeds=(0,)).run([server.url])
        assert len(server.runs) == 19 + 4
        sweep(tmp_path, changed, seeds=(0,)).run([server.url])
        assert len(server.runs) == 19 + 4
        server.models["checkpoints"][-1]["modified"] = 2.0  # trained again, as large as before
        sweep(tmp_path, changed, seeds=(0,)).run([server.url])
        assert len(server.runs) == 23 + 4


def test_videos_of_an_earlier_graph_or_model_file_are_no_clips(tmp_path, arms):
    def refuse(number, graph):
        return "refuse" if graph["13"]["inputs"]["text_guidance"] == 8 else None

    with serving(FakeComfyUI(refuse)) as server:
        sweep(tmp_path, arms).run([server.url])
        changed = sweep(tmp_path, [arms[0], read_arm(["strong", GRAPH, "Emu Video Sampler.text_guidance=8"])])
        assert len(changed.run([server.url])) == 4 and {clip.arm for clip in changed.clips()} == {"weak"}
        server.models["checkpoints"].append({"name": CHECKPOINT.name, "size": 5, "modified": 1.0})
        server.behaviour = lambda number, graph: "refuse"
        newer = sweep(tmp_path, arms)
        assert len(newer.run([server.url])) == 8 and newer.clips() == []


def test_a_reference_of_an_earlier_graph_is_removed(tmp_path, arms):
    graph = Graph.load(Path(GRAPH))
    graph.remove("EmuVideoFirstFrame")
    with serving(FakeComfyUI()) as server:
        before, after = sweep(tmp_path, arms), sweep(tmp_path, [arms[0], GraphArm("strong", graph, "no first frame")])
        before.run([server.url])
        assert all(clip.reference for clip in before.clips())
        after.run([server.url])
    assert {clip.arm for clip in after.clips() if clip.reference} == {"weak"} and len(after.clips()) == 8


def test_interrupted_sweep_goes_on(tmp_path, arms):
    with serving(FakeComfyUI(lambda number, graph: "die" if number >= 3 else None)) as dying:
        with pytest.raises(ConnectionLost, match="5 of 8 jobs are left"):
            sweep(tmp_path, arms).run([dying.url])
    server, rest = FakeComfyUI(), sweep(tmp_path, arms)
    with serving(server):
        assert not rest.run([server.url])
    assert len(server.runs) == 5 and len(rest.clips()) == 8


def test_servers_with_different_files_of_one_name_are_refused(tmp_path, arms):
    servers = [FakeComfyUI(), FakeComfyUI()]
    for server, size in zip(servers, (5, 6), strict=True):
        server.models = {"checkpoints": [{"name": CHECKPOINT.name, "size": size, "modified": 1.0}]}
    with serving(servers[0]) as one, serving(servers[1]) as other:
        other_name = other.url.replace("127.0.0.1", "localhost")
        with pytest.raises(ValueError, match=f"{CHECKPOINT.name} has 5 bytes on 127.0.0.1 and 6 on localhost"):
            sweep(tmp_path, arms).run([one.url, other_name])


@pytest.mark.parametrize(
    "then, now, same",
    [
        ({"a": {"x": [1, 1]}}, {"a": {"x": [1, 1]}}, True),
        ({"a": {"x": [1, 1]}}, {"a": {"x": [1, 2]}}, False),
        ({"a": {"x": [1, 1]}}, {"b": {"x": [1, 2]}}, True),
        ({"a": {"x": [1, 1]}}, {"b": {"x": [2, 2]}}, False),
        ({"a": {"x": [1, 1]}, "b": {"x": [1, 5]}}, {"a": {"x": [1, 1]}}, True),
        ({"a": {"x": [1, 1]}}, {"a": {"x": [1, 1], "y": [1, 1]}}, False),
        ({"a": {"x": [1, 1, 2, 1]}}, {"a": {"x": [1, 5, 2, 1]}}, False),
        ({"a": {"x": [1, 1, 2, 1]}}, {"b": {"x": [1, 5, 2, 5]}}, True),
        ({"a": {"x": [1, 1, 2, 1]}}, {"b": {"x": [1, 1]}}, False),
    ],
)
def test_weights_are_compared_by_size_and_on_each_host_by_time(then, now, same):
    assert same_weights(then, now) is same


def compare(arms, folder, server=None, **settings):
    prompts = folder / "prompts.csv"
    prompts.parent.mkdir(exist_ok=True, parents=True)
    prompts.write_text("id,prompt\na,a red circle\nb,<b>a blue square</b>\n")
    settings = {"prompts": prompts, "seeds": [0, 7], "encoders": Encoders()} | settings
    return evaluate(arms, folder / "out", servers=[server.url] if server else None, **settings)


def test_report_of_two_graphs(tmp_path, arms):
    with serving(FakeComfyUI()) as server:
        page = compare(arms, tmp_path, server, notes=["Not measured: X."])
        report = json.loads((page.parent / "report.json").read_text())
        again = compare(arms, tmp_path, server)
        assert len(server.runs) == 8 and again == page
    assert list(report["arms"]) == ["weak", "strong"] and "text_guidance=4" in report["arms"]["strong"]
    assert (
        len(report["videos"]) == 4
        and report["notes"][0] == "Not measured: X."
        and "Only 2 prompts" in report["notes"][1]
    )
    for video in report["videos"]:
        for arm in video["arms"].values():
            frames, _ = read(page.parent / arm["file"])
            assert len(frames) == 8 and arm["metrics"]["psnr"] > 70 and arm["metrics"]["motion_score"] > 0
    summary = report["summary"]["motion_score"]
    assert summary["weak"]["low"] <= summary["weak"]["mean"] <= summary["weak"]["high"]
    same = {"mean": 0, "low": 0, "high": 0, "prompts": 2}  # this server ignores guidance
    assert summary["strong"]["difference"] == same
    text = page.read_text()
    assert "<b>a blue" not in text and "<svg" in text and (page.parent / "contact_sheet.png").exists()


def moving(count=8, size=(64, 96), fps=8.0, step=2):
    frames = np.full((count, *size, 3), 60, np.uint8)
    for i, frame in enumerate(frames):
        frame[20:40, 5 + step * i : 25 + step * i] = (200, 80, 40)
    return Video(frames, fps)


@pytest.fixture
def folders(tmp_path):
    """Two folders with the names a_0, a_1 and b; each arm has one more that the other lacks."""
    for arm, step, extra in (("one", 1, "x"), ("other", 3, "y")):
        for name in ("a_0", "a_1", "b", extra):
            write_mp4(tmp_path / arm / f"{name}.mp4", moving(step=step))
    return [FolderArm("one", tmp_path / "one", "1"), FolderArm("other", tmp_path / "other", "2")]


def test_folders_are_matched_by_name(tmp_path, folders):
    page = compare(folders, tmp_path)
    report = json.loads((page.parent / "report.json").read_text())
    assert [video["name"] for video in report["videos"]] == ["a_0", "a_1", "b"]
    assert report["videos"][0]["prompt"] == "a red circle"
    assert any(note == "Left out, because an arm lacks them: x, y." for note in report["notes"])
    difference = report["summary"]["motion_score"]["other"]["difference"]
    assert difference["low"] > 0 and "psnr" not in report["summary"]


def test_different_forms_are_measured_in_one_and_said(tmp_path, folders):
    write_lossless(tmp_path / "other" / "a_0.mkv", moving(24, (128, 128), 24.0))
    (tmp_path / "other" / "a_0.mp4").unlink()
    page = compare(folders, tmp_path)
    report = json.loads((page.parent / "report.json").read_text())
    forms = report["videos"][0]["arms"]["other"]
    assert forms["form"] == "24 frames, 128 x 128, 24 fps" and forms["measured as"] == "8 frames, 64 x 64, 8 fps"
    assert any("length and frame rate, because they differ: a_0." in note for note in report["notes"])


def test_unreadable_file_leaves_the_others(tmp_path, folders):
    (tmp_path / "other" / "a_1.mp4").write_bytes(b"broken")
    page = compare(folders, tmp_path)
    report = json.loads((page.parent / "report.json").read_text())
    assert [video["name"] for video in report["videos"]] == ["a_0", "b"]
    assert any("a_1 is left out" in note and "a_1.mp4 cannot be read" in note for note in report["notes"])


def test_folders_without_common_names_are_refused(tmp_path):
    for arm, name in (("one", "x"), ("other", "y")):
        write_mp4(tmp_path / arm / f"{name}.mp4", moving())
    arms = [FolderArm(name, tmp_path / name, "") for name in ("one", "other")]
    with pytest.raises(ValueError, match=r"no video of the same name \(one: x, other: y\)"):
        compare(arms, tmp_path)


def test_encoders_are_used_and_their_distances_reported(tmp_path, folders):
    import torch

    encoders = Encoders(
        image=lambda frames: torch.from_numpy(frames).float().mean((1, 2)),
        text=lambda prompt: torch.ones(3),
        subject=lambda frames: torch.from_numpy(frames).float().mean((1, 2)),
        video=lambda frames: torch.from_numpy(frames).float().mean((0, 1)).flatten()[:6],
        key="k",
    )
    page = compare(folders, tmp_path, encoders=encoders)
    report = json.loads((page.parent / "report.json").read_text())
    assert {"frame_consistency", "text_alignment", "subject_consistency"} <= report["summary"].keys()
    assert report["distances"]["other"].keys() == {"frechet_distance", "polynomial_mmd"}
    assert "embedding" not in page.read_text()


def test_failed_jobs_are_said_and_the_others_compared(tmp_path, arms):
    def fail(number, graph):
        return "fail" if graph["13"]["inputs"]["seed"] == 7 and graph["13"]["inputs"]["text_guidance"] == 4 else None

    with serving(FakeComfyUI(fail)) as server:
        page = compare(arms, tmp_path, server)
    report = json.loads((page.parent / "report.json").read_text())
    assert [video["name"] for video in report["videos"]] == ["a_0", "b_0"]
    assert any("Failed: strong/a_7, strong/b_7." in note and "out of memory" in note for note in report["notes"])


def test_arm_of_which_everything_fails_is_named(tmp_path, arms):
    def refuse(number, graph):
        return "refuse" if graph["13"]["inputs"]["text_guidance"] == 4 else None

    with serving(FakeComfyUI(refuse)) as server:
        with pytest.raises(ValueError, match="'strong' has no video.*value not in list"):
            compare(arms, tmp_path, server)


@pytest.mark.parametrize(
    "words, said",
    [
        (["a"], "needs a name and a graph"),
        (["a/b", GRAPH], "is not a valid folder name"),
        (["report", GRAPH], "not 'report'"),
        (["a", "nothing.json"], "nothing.json cannot be read"),
        (["a", GRAPH, "steps"], "is not a change"),
        (["a", GRAPH, "KSampler.stepz=3"], "no input 'stepz'"),
        (["a", str(ROOT), "KSampler.steps=3"], "has no effect"),
    ],
)
def test_arms_that_cannot_be_are_refused(words, said):
    with pytest.raises(ValueError, match=said):
        read_arm(words)


def test_changes_keep_their_types():
    arm = read_arm(["a", GRAPH, "KSampler.steps=3", "KSampler.cfg=2.5", "KSampler.sampler_name=heun", "12.frames=8"])
    assert isinstance(arm, GraphArm)
    inputs = arm.graph.inputs("KSampler")
    assert (inputs["steps"], inputs["cfg"], inputs["sampler_name"]) == (3, 2.5, "heun")


def test_comparisons_that_cannot_be_are_refused(tmp_path, arms, folders):
    with pytest.raises(ValueError, match="two arms"):
        compare(arms[:1], tmp_path)
    with pytest.raises(ValueError, match="named 'weak'"):
        compare([arms[0], arms[0]], tmp_path)
    with pytest.raises(ValueError, match="need prompts"):
        compare(arms, tmp_path, prompts=None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty has no video"):
        compare([folders[0], FolderArm("empty", tmp_path / "empty", "")], tmp_path)


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("p.txt", "a dog\n\n# note\n a cat \n", [("001", "a dog"), ("002", "a cat")]),
        ("p.csv", 'id,prompt\nx,"a dog, running"\n,a cat\n', [("x", "a dog, running"), ("002", "a cat")]),
        ("p.jsonl", '{"prompt": "a dog", "id": 0}\n\n{"prompt": "a cat"}\n', [("0", "a dog"), ("002", "a cat")]),
    ],
)
def test_lists_of_prompts(tmp_path, name, content, expected):
    (tmp_path / name).write_text(content)
    assert [(prompt.id, prompt.text) for prompt in read_prompts(tmp_path / name)] == expected


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("p.txt", "\n# only notes\n", "has no prompts"),
        ("p.csv", "text\na dog\n", "entry 1 has no prompt"),
        ("p.jsonl", "{\n", "cannot be read"),
        ("p.jsonl", '["a dog"]\n', "entry 1 has no prompt"),
        ("p.csv", "id,prompt\n../x,a dog\n", "is not a valid file name"),
        ("p.csv", "id,prompt\nx,a dog\nX,a cat\n", "occurs twice"),
        ("p.txt", b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_lists_that_cannot_be_used_are_refused(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=said):
        read_prompts(path)
