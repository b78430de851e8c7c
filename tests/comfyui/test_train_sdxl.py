"""run.py prepare and run.py train on a narrow SDXL: pooled text, and the sizes that SDXL is conditioned on."""

from __future__ import annotations

import comfy.sd
import pytest
import torch
from emu_video.host import headless, prepare_command, train_command
from emu_video.host.trainable_model import trainable
from emu_video.temporal_layers.files import load_layers
from emu_video.temporal_layers.formats import load
from emu_video.temporal_layers.layers import TemporalLayers
from emu_video.tests.comfyui.narrow_clip import narrow_clip
from emu_video.tests.comfyui.stock import Stock
from emu_video.tests.temporal_layers.formats import public
from emu_video.tests.training.prepare.videos import moving, write
from emu_video.training.clips import ShardedClips
from safetensors.torch import save_file

WIDTHS = (32, 64, 128)
POOLED = 16  # of the narrow SDXL
FEW = {"steps": 2, "batch": 2, "clips_at_once": 2, "low_rank": 2, "sample_every": 2, "save_every": 2, "sample_steps": 2,
       "check_every": 2, "log_every": 1, "warmup": 1, "precision": "float32"}  # fmt: skip
SIZES = ((96, 64), (64, 64))  # width, height of the videos


@pytest.fixture(scope="module")
def stock(pack, tmp_path_factory):
    with Stock.loaded("sdxl", True, (), "", tmp_path_factory.mktemp("loras")) as stock:
        yield stock


@pytest.fixture
def clip():
    clip = narrow_clip("sdxl", 24)
    encoder = clip.cond_stage_model.clip_g.transformer
    encoder.text_projection = torch.nn.Linear(12, POOLED, bias=False)
    return clip


@pytest.fixture
def files(tmp_path, stock, clip, vae, monkeypatch):
    """Two videos of different sizes, the layers of AnimateDiff's SDXL beta, and the commands' options."""
    for number, (width, height) in enumerate(SIZES):
        name = tmp_path / "videos" / f"{number}.mkv"
        write(name, moving(8, width, height, seed=number), codec="ffv1", pixels="bgr0")
        name.with_suffix(".txt").write_text(f"a ball {number}")
    save_file(public.animatediff(WIDTHS), tmp_path / "mm_sdxl.safetensors")
    monkeypatch.setattr(comfy.sd, "load_checkpoint_guess_config", lambda _: (stock.model, clip, vae))
    monkeypatch.setattr(headless, "find", lambda folder, name: name)
    return tmp_path


def test_from_videos_to_layers(files, stock):
    videos, data, run = (str(files / name) for name in ("videos", "data", "run"))
    with torch.inference_mode(False):
        prepare_command.main([videos, "--checkpoint", "sdxl", "--size", "64x64", "--output", data])
    clips = ShardedClips(files / "data")
    pooled = [clips[number].text["pooled_output"] for number in range(2)]
    assert clips.base["name"] == "sdxl" and {each.shape for each in pooled} == {(POOLED,)}
    assert not torch.equal(*pooled)
    sizes = {tuple(clips[n].sizes["original_size"].tolist()) + tuple(clips[n].sizes["crop"].tolist()) for n in range(2)}
    assert sizes == {(96, 64, 16, 0), (64, 64, 0, 0)}

    layers = str(files / "mm_sdxl.safetensors")
    options = [f"--set={key}={value}" for key, value in FEW.items()]
    train_command.main(
        ["motion_sdxl_12gb", data, "--checkpoint", "sdxl", "--layers", layers, "--output", run, *options]
    )
    trained, info = load_layers(files / "run" / "motion.safetensors")
    assert info.base == "sdxl" and info.training["steps"] == 2
    given = load(layers)[0]
    assert any(not torch.equal(trained[key].float(), given[key].float()) for key in given)
    assert (files / "run" / "motion_lora.safetensors").is_file() and stock.is_as_loaded()
    assert (files / "run" / "samples" / "motion-000002.mp4").is_file()


def test_the_sizes_of_each_clip_reach_the_model(files, stock):
    """Each frame gets the pooled text and the sizes of its clip; a prompt without sizes gets those of sampling."""
    with torch.inference_mode(False):
        layers = TemporalLayers.of(load(files / "mm_sdxl.safetensors")[1])
    texts = [{"cross_attn": torch.zeros(7, 24), "pooled_output": torch.full((POOLED,), float(n))} for n in range(2)]
    sizes = [{"original_size": torch.tensor(size), "crop": torch.tensor([16, 0])} for size in SIZES]
    embed = stock.model.model.encode_adm
    with trainable(stock.model, layers) as network:
        seen = []
        network._apply = lambda x, t, **conds: seen.append(conds["y"]) or x
        noisy, t = torch.zeros(2, 3, 4, 8, 16), torch.tensor([1, 2])
        network(noisy, t, None, [text | size for text, size in zip(texts, sizes, strict=True)])
        network(noisy, t, None, texts)
    target = {"target_width": 128, "target_height": 64}
    for number, (width, height) in enumerate(SIZES):
        pooled = {"pooled_output": texts[number]["pooled_output"][None], "device": torch.device("cpu")}
        trained = embed(**pooled, width=width, height=height, crop_w=16, crop_h=0, **target)
        sampled = embed(**pooled, width=128, height=64)
        assert torch.equal(seen[0][3 * number : 3 * number + 3], trained.expand(3, -1))
        assert torch.equal(seen[1][3 * number : 3 * number + 3], sampled.expand(3, -1))
        assert not torch.equal(trained, sampled)
