"""Training that starts from AnimateDiff files, on a narrow SD1.5 from the stock loader. Weights are random."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial

import pytest
import torch
from emu_video.host import training
from emu_video.host.injection import inject
from emu_video.host.layer_settings import with_motion_lora
from emu_video.host.trainable_model import trainable
from emu_video.temporal_layers.files import load_layers
from emu_video.temporal_layers.formats import load
from emu_video.temporal_layers.layers import TemporalLayers
from emu_video.temporal_layers.reader import read
from emu_video.tests.comfyui import tiny
from emu_video.tests.comfyui.stock import FRAMES, LATENT, Stock
from emu_video.tests.temporal_layers.formats import public
from emu_video.training.clips import MemoryClips
from emu_video.training.recipe import load_recipe
from safetensors.torch import save_file

WIDTHS = (32, 64, 128, 128)  # of the levels of a narrow SD1.5
VERSIONS = {"v2": public.V2, "v3": public.V3}
STEPS = 20
FEW = [f"steps={STEPS}", "batch=2", "clips_at_once=2", "warmup=1", "learning_rate=1e-3", "average_decay=0.5",
       "sample_every=0", "check_every=20", "save_every=20", "precision=float32", "optimiser=adamw",
       "save_as=float32"]  # fmt: skip


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    with Stock.loaded("sd15", True, (), "AnimateDiff v1", tmp_path_factory.mktemp("loras")) as stock:
        yield stock


@pytest.fixture(params=VERSIONS)
def file(request, tmp_path):
    path = tmp_path / f"mm_sd_v15_{request.param}.safetensors"
    save_file(public.animatediff(WIDTHS, **VERSIONS[request.param]), path)
    return path


def clips(count: int = 4) -> MemoryClips:
    """Random pictures that get brighter from frame to frame."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(count, 1, *LATENT, generator=generator) + 0.3 * torch.arange(FRAMES)[:, None, None, None]
    texts = [{"cross_attn": torch.randn(7, 24, generator=generator)} for _ in range(count)]
    return MemoryClips(latents, texts, {"cross_attn": torch.zeros(7, 24)}, fps=8.0, key="test")


def train(stock, file, folder, *changes, **options):
    recipe = load_recipe("motion_sd15_12gb", [*FEW, *changes])
    return training.train_recipe(stock.model, recipe, clips(), folder, given=load(file), echo=False, **options)


def test_step_0_is_the_file_as_it_plays(stock, file):
    """The trainer's network gives the noise that sampling with the file predicts."""
    seen: dict = {}

    def record(apply, arguments):
        seen.update(arguments, denoised=apply(arguments["input"], arguments["timestep"], **arguments["c"]))
        return seen["denoised"]

    model = inject(stock.model, *load(file), file.name)
    model.set_model_unet_function_wrapper(record)
    tiny.sample(model, noise=stock.start(), steps=1, cfg=1.0, positive=stock.prompt(1), negative=stock.prompt(2))
    x, sigma = seen["input"], seen["timestep"][0]
    t = model.get_model_object("model_sampling").timestep(sigma)
    expected = (x - seen["denoised"]) / sigma

    with torch.inference_mode(False):
        layers = TemporalLayers.of(load(file)[1])
        layers.load_state_dict({key: weight.clone() for key, weight in load(file)[0].items()})
    with trainable(stock.model, layers, checkpointing=False) as network:
        noisy = (x / (sigma**2 + 1) ** 0.5)[None].clone()
        text = {"cross_attn": stock.prompt(1)[0][0][0].clone()}
        out = network(noisy, t[None].clone(), None, [text])[0].detach()
    assert (out - expected).abs().max() < 1e-4 * expected.abs().max()
    assert (stock.sample(model) - stock.sample(stock.model)).abs().max() > 1e-2


@contextmanager
def watched(*args, copies: list, **kwargs):
    """The trainer's own copy of the checkpoint, with its weights after training."""
    with trainable(*args, **kwargs) as network:
        yield network
        copies.append({key: weight.clone() for key, weight in network.unet.state_dict().items()})


def test_only_temporal_weights_change(stock, file, tmp_path, monkeypatch):
    given, info = load(file)
    copies: list[dict] = []
    monkeypatch.setattr(training, "trainable", partial(watched, copies=copies))
    trained = train(stock, file, tmp_path)
    base = stock.model.model.diffusion_model.state_dict()
    assert copies[0].keys() == base.keys() and all(torch.equal(copies[0][key], base[key]) for key in base)
    assert stock.is_as_loaded()
    saved, saved_info = load_layers(trained.file)
    assert saved.keys() == given.keys() and saved_info.training["steps"] == STEPS
    assert (saved_info.family, saved_info.modules, saved_info.anchors) == (info.family, info.modules, info.anchors)
    same = {key for key in given if torch.equal(saved[key], given[key].float())}
    assert same == {key for key in given if key.endswith("positions")}  # AnimateDiff's are sinusoids, not trained
    before, after = (stock.sample(inject(stock.model, *layers, "")) for layers in ((given, info), (saved, saved_info)))
    assert after.isfinite().all() and (after - before).abs().max() > 1e-3


def test_the_motion_lora_loads_on_the_file(stock, file, tmp_path):
    """The file and its LoRA play as the merged layers. The keys are those of AnimateDiff's published motion LoRAs."""
    trained = train(stock, file, tmp_path, "low_rank=4")
    lora = read(tmp_path / "motion_lora.safetensors")
    assert lora.tensors.keys() == public.motion_lora(WIDTHS, middle="v2" in file.name).keys()
    plain = inject(stock.model, *load(file), file.name)
    with_lora = stock.sample(with_motion_lora(plain, lora, 1.0))
    merged = stock.sample(inject(stock.model, *load_layers(trained.file), "merged"))
    assert (with_lora - merged).abs().max() < 1e-4 * merged.abs().max()
    assert (merged - stock.sample(plain)).abs().max() > 1e-3
