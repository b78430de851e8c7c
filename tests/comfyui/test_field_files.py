"""Public reports about files of motion modules, rebuilt with random weights. docs/field.md lists them."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_animatediff_checkpoint_to_diffusers
from emu_video.temporal_layers.formats import convert, load
from emu_video.temporal_layers.reader import Weights
from emu_video.tests.temporal_layers.formats import public
from safetensors.torch import save_file


def test_position_tables_repeated_by_a_trainer():
    """Some trainers stretched the table by repeating each row. That is no table that can be computed."""
    tensors = public.animatediff(**public.V1)
    stretched = {k: v.repeat_interleave(2, 1) if k.endswith(".pe") else v for k, v in tensors.items()}
    with pytest.raises(ValueError, match=r"pos_encoder\.pe is not the usual table of sinusoids"):
        convert(Weights("mine.safetensors", stretched))


def test_hotshotxl_knows_24_frames():
    half = {key: tensor.half() for key, tensor in public.hotshotxl().items()}
    assert convert(Weights("hsxl_temporal_layers.f16.safetensors", half))[1].max_frames == 24


def test_adapters_of_diffusers_as_they_are_published(tmp_path):
    """A folder in half precision, and PIA's with a config that forgot its input channels."""
    for name, tensors, variant, family in (
        ("v3", public.animatediff(), ".fp16", "AnimateDiff v3"),
        ("pia", public.pia(), "", "PIA"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        renamed = convert_animatediff_checkpoint_to_diffusers(tensors)
        renamed |= {key: tensor for key, tensor in tensors.items() if key.startswith("conv_in")}
        half = {key: tensor.half().contiguous() for key, tensor in renamed.items()}
        save_file(half, folder / f"diffusion_pytorch_model{variant}.safetensors")
        config = {"_class_name": "MotionAdapter", "conv_in_channels": None, "motion_max_seq_length": 32,
                  "motion_num_attention_heads": 8, "use_motion_mid_block": False}  # fmt: skip
        (folder / "config.json").write_text(json.dumps(config))
        info = load(folder)[1]
        assert info.family == family and info.max_frames == 32


def test_a_module_in_the_old_pickle_format(tmp_path):
    torch.save(public.animatediff(**public.V1), tmp_path / "mm.pth", _use_new_zipfile_serialization=False)
    assert load(tmp_path / "mm.pth")[1].family == "AnimateDiff v1"
